//! `apply`: what the hosts lack of what `machines/` declares, and the verbs that bring it about.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use crate::cli::{
    Cost, MachinesOrAll, Outcome, Rolling, SSH_LIMIT, Shown, Terminal, Turn, Verdict, each, seconds, several,
    table,
};
use crate::error::Result;
use crate::exec::quoted;
use crate::model::MachineName;
use crate::ops::{self, Action, Call, Due, Needs, Setup, UpgradeRequest, Wanted, Watch};

/// The exit code of `--dry-run` if something is due.
const DUE: u8 = 5;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm apply --dry-run          show what is due; exit code 5 if anything is
  nixvm apply                    create, change, upgrade and start machines until all are as declared
  nixvm apply 'web-*' --canary web-3 --batch 5

Machines are made and started in the order of their files `after`. Upgrades follow, as with `nixvm upgrade`: first one
machine, then batches, and the first that is rolled back keeps the rest as they are. What needs a restart and no upgrade, such as
more memory, is in force from the next start. Nothing is ever deleted: a machine without a folder is only named.")]
pub struct Apply {
    #[command(flatten)]
    machines: MachinesOrAll,
    /// Show what is due, and do nothing; the exit code is 5 if anything is
    #[arg(long)]
    dry_run: bool,
    /// Wait at most SECONDS for a guest to shut down, and again for it to come up [default: 120, then 180 with KVM or 600 without]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    rolling: Rolling,
}

/// A machine that is as declared now.
#[derive(Debug, Serialize)]
struct Applied {
    /// What was done.
    actions: Vec<Action>,
    #[serde(skip)]
    verdict: Verdict,
}

pub fn run(call: &Call, args: &Apply, terminal: &Terminal) -> Result<Shown> {
    let selection = args.machines.select(call)?;
    let names: Vec<MachineName> = selection.names().into_iter().collect();
    let order = ops::start_order(call, &selection.names())?;
    let (mut due, mut turns): (BTreeMap<MachineName, Due>, Vec<Turn<Applied>>) = Default::default();
    for (name, found) in names.iter().zip(ops::due(call, &names, terminal)?) {
        match found {
            Ok(found) => drop(due.insert(name.clone(), found)),
            Err(error) => turns.push(Turn::of(name.clone(), Err(error))),
        }
    }
    if args.machines.all() {
        for (name, connection) in ops::undeclared(call)? {
            terminal.note(&format!(
                "{name} has a domain and no folder machines/{name} any more; `nixvm --connect {} destroy {name}` deletes it",
                quoted(connection.as_str())
            ));
        }
    }
    if args.dry_run {
        return planned(due, turns, terminal);
    }
    let is_upgrade = |action: &Action| matches!(action, Action::Upgrade { .. } | Action::Resume { .. });
    let is_upgraded = |due: &Due| due.actions.iter().any(is_upgrade);
    let upgraded: BTreeSet<MachineName> =
        due.iter().filter(|(_, due)| is_upgraded(due)).map(|(name, _)| name.clone()).collect();
    let each = each(call, &selection, Needs::Files, Cost::Building, terminal)?;
    let rollout = args.rolling.rollout(&selection.names(), upgraded.clone(), each.jobs())?;
    let limit = args.timeout.unwrap_or(SSH_LIMIT);
    let apply = |setup: &Setup, name: &MachineName, terminal: &Terminal| -> Result<Applied> {
        let actions = due[name].actions.clone();
        let mut verdict = Verdict::Untried;
        for action in &actions {
            match action {
                Action::Start => {
                    ops::wait_for_others(call, name, &selection.names(), limit, terminal)?;
                    ops::start(setup, name, terminal).map(drop)?;
                }
                action => verdict = act(setup, &due[name], action, args.timeout, terminal)?,
            }
        }
        Ok(Applied { actions, verdict })
    };
    for group in order {
        let now = group.into_iter().filter(|name| due.contains_key(name) && !upgraded.contains(name));
        turns.extend(each.some(now.collect(), || true, apply));
    }
    turns.extend(each.roll(rollout, apply, |applied| applied.verdict));
    turns.sort_by(|one, other| one.subject.cmp(&other.subject));
    let text = shown(&turns, |applied| &applied.actions);
    several(turns, text, terminal)
}

/// Does one thing that is due, but for a start.
fn act(
    setup: &Setup,
    due: &Due,
    action: &Action,
    timeout: Option<Duration>,
    terminal: &Terminal,
) -> Result<Verdict> {
    let (machine, name) = (&due.machine, &due.machine.name);
    match action {
        Action::Create => ops::create(setup, machine, Some(&due.ahead), terminal).map(drop)?,
        Action::Set { changes } => {
            let grows = changes.iter().any(|change| change.file == "var_size");
            let wanted = Wanted {
                memory: Some(machine.memory),
                vcpus: Some(machine.vcpus),
                var_size: grows.then_some(machine.var_size),
                autostart: Some(machine.autostart),
                protect: None,
            };
            ops::set(setup, name, wanted, terminal).map(drop)?;
        }
        Action::Upgrade { .. } | Action::Resume { .. } => {
            let request = UpgradeRequest { start: true, judge: true, timeout };
            let done = ops::upgrade(setup, name, request, Some(&due.ahead), terminal)?;
            return Ok(Verdict::of(&done));
        }
        Action::Start => {}
    }
    Ok(Verdict::Untried)
}

/// Returns what is due, and the exit code that says whether anything is.
fn planned(
    due: BTreeMap<MachineName, Due>,
    failed: Vec<Turn<Applied>>,
    terminal: &Terminal,
) -> Result<Shown> {
    let is_due = due.values().any(|due| !due.actions.is_empty());
    let mut turns: Vec<Turn<Applied>> = due
        .into_iter()
        .map(|(name, due)| Turn::of(name, Ok(Applied { actions: due.actions, verdict: Verdict::Untried })))
        .chain(failed)
        .collect();
    turns.sort_by(|one, other| one.subject.cmp(&other.subject));
    let text = shown(&turns, |applied| &applied.actions);
    let shown = several(turns, text, terminal)?;
    let exit_code = if shown.exit_code == 0 && is_due { DUE } else { shown.exit_code };
    Ok(Shown { exit_code, ..shown })
}

/// Returns a table of the machines with which something is or was to be done, and the number of the others.
fn shown<T>(turns: &[Turn<T>], actions: impl Fn(&T) -> &Vec<Action>) -> String {
    let is_quiet = |turn: &&Turn<T>| matches!(&turn.outcome, Outcome::Done(done) if actions(done).is_empty());
    let quiet = turns.iter().filter(is_quiet).count();
    let rows = turns.iter().filter(|turn| !is_quiet(turn)).map(|turn| {
        let word = |done: &T| actions(done).iter().map(word).collect::<Vec<_>>().join("; ");
        vec![turn.subject.to_string(), turn.word(word)]
    });
    let rows: Vec<_> = rows.collect();
    let mut text = if rows.is_empty() { String::new() } else { table(&["MACHINE", "CHANGES"], rows) };
    if quiet > 0 {
        text += &format!("{quiet} of {} machines as declared", turns.len());
    }
    text
}

fn word(action: &Action) -> String {
    match action {
        Action::Create => "create".into(),
        Action::Set { changes } => {
            let change =
                |found: &ops::Difference| format!("{} {} -> {}", found.file, found.before, found.after);
            changes.iter().map(change).collect::<Vec<_>>().join(", ")
        }
        Action::Resume { command } => format!("finish the interrupted `nixvm {command}`"),
        Action::Upgrade { from, to } => format!("upgrade, generation {from} -> {to}"),
        Action::Start => "start".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    #[test]
    fn what_is_due_is_shown_and_the_rest_is_counted() {
        console::set_colors_enabled(false);
        let difference =
            ops::Difference { file: "memory", before: "1024 MiB".into(), after: "2048 MiB".into() };
        let set = Action::Set { changes: vec![difference] };
        let turn = |name: &str, outcome: Result<Vec<Action>>| Turn::of(name.parse().unwrap(), outcome);
        let turns = [
            turn("app", Ok(vec![])),
            turn("db", Ok(vec![set, Action::Upgrade { from: 1, to: 2 }])),
            turn("web", Ok(vec![Action::Create, Action::Start])),
            turn("www", Err(Failure::user("machines/www/memory, line 1, is wrong").into())),
        ];
        assert_eq!(
            shown(&turns, |actions| actions),
            "MACHINE  CHANGES\n\
             db       memory 1024 MiB -> 2048 MiB; upgrade, generation 1 -> 2\n\
             web      create; start\n\
             www      failed: machines/www/memory, line 1, is wrong\n\
             1 of 4 machines as declared"
        );
        assert_eq!(shown(&turns[..1], |actions| actions), "1 of 1 machines as declared");
    }
}
