//! `upgrade`: of one machine, or of several, one after the proof of another.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::cli::{
    Cost, Machines, Rolling, Shown, Terminal, Turn, Verdict, at_once, cores, dash, each, seconds, several,
    table,
};
use crate::error::Result;
use crate::model::MachineName;
use crate::ops::{self, Call, Needs, Runs, Setup, UpgradeRequest, Upgraded};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm upgrade web
  nixvm upgrade web --no-start           build now, run it from the next start
  nixvm upgrade 'web-*' --timeout 300    the first of them, then the others
  nixvm upgrade --all --canary web-3 --batch 5

The image is built while the machine runs. A machine that comes up less healthy than it was before is
rolled back, and the exit code is 3; docs/upgrades.md says what is checked. Of several machines, one is
upgraded first. Once it has come up with its new system, the others follow in batches. The first that is
rolled back or fails keeps the rest from being touched.")]
pub struct Upgrade {
    #[command(flatten)]
    machines: Machines,
    /// Do not restart a running machine: it gets the new system at its next start
    #[arg(long)]
    no_start: bool,
    /// Do not check the machine's health after the restart, and never roll back
    #[arg(long, conflicts_with = "no_start")]
    no_health: bool,
    /// Wait at most SECONDS for the guest to shut down, and again for it to come up [default: 120, then 180 with KVM or 600 without]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    rolling: Rolling,
}

pub fn run(call: &Call, args: &Upgrade, terminal: &Terminal) -> Result<Shown> {
    let selection = args.machines.select(call)?;
    let each = each(call, &selection, Needs::Domain, Cost::Building, terminal)?;
    let rollout = args
        .rolling
        .rollout(&selection.names(), selection.names(), each.jobs())?
        // Nothing that is not restarted can go back.
        .proven(args.no_start);
    let request = UpgradeRequest { start: !args.no_start, judge: !args.no_health, timeout: args.timeout };
    let ahead = if selection.len() == 1 {
        BTreeMap::new()
    } else {
        let names: Vec<MachineName> = selection.names().into_iter().collect();
        ops::build_ahead(call, &names, terminal)?
    };
    let upgrade = |setup: &Setup, name: &MachineName, terminal: &Terminal| {
        ops::upgrade(setup, name, request, ahead.get(name), terminal)
    };
    if selection.len() == 1 {
        return each.shown(upgrade, word);
    }
    let turns = each.roll(rollout, upgrade, Verdict::of);
    let runs = runs(call, &turns);
    let row = |(turn, runs): (&Turn<Upgraded>, &Option<Runs>)| {
        vec![turn.subject.to_string(), turn.seconds(), generation(*runs), turn.word(word)]
    };
    let text = table(&["MACHINE", "SECONDS", "GENERATION", "RESULT"], turns.iter().zip(&runs).map(row));
    let mut shown = several(turns, text, terminal)?;
    for (machine, runs) in shown.json.as_array_mut().into_iter().flatten().zip(runs) {
        machine["running"] = json!(runs.and_then(|runs| runs.now));
        machine["next"] = json!(runs.map(|runs| runs.next));
    }
    Ok(shown)
}

/// Returns which generation each machine is on now, also of those that failed or were not touched; `None` where its libvirt
/// does not say.
fn runs(call: &Call, turns: &[Turn<Upgraded>]) -> Vec<Option<Runs>> {
    let names = turns.iter().map(|turn| &turn.subject).collect();
    let ask = |name: &MachineName| ops::runs(&call.machine(name)?, name);
    let found = at_once(Cost::Waiting.jobs(cores()), names, || true, |name| ask(name).ok());
    found.into_iter().map(Option::flatten).collect()
}

fn generation(runs: Option<Runs>) -> String {
    match runs {
        None => dash(None::<u32>),
        Some(Runs { now: Some(now), next }) if now == next => now.to_string(),
        Some(Runs { now: Some(now), next }) => format!("{now}, then {next}"),
        Some(Runs { now: None, next }) => format!("off, then {next}"),
    }
}

fn word(done: &Upgraded) -> String {
    match (done.outcome, done.downtime) {
        (ops::Outcome::UpToDate, _) => "up to date".into(),
        (ops::Outcome::Prepared, _) => "prepared for its next start".into(),
        (ops::Outcome::Upgraded, None) => "upgraded".into(),
        (ops::Outcome::Upgraded, Some(seconds)) => format!("upgraded, down for {seconds:.1} s"),
    }
}
