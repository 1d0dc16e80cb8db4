use std::time::Duration;

use crate::cli::{Machines, SSH_LIMIT, Shown, Terminal, error_text, seconds};
use crate::error::{Failure, Report, Result};
use crate::ops::{self, Call, Goal, Needs, Waited};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm wait web db                          until ssh of both answers, 10 minutes at most
  nixvm wait web --for healthy && ./deploy
  nixvm wait web --for off --timeout 60

Nothing is started or stopped. Exit codes: 0 when all machines are there; 4 when the time is over.")]
pub struct Wait {
    #[command(flatten)]
    machines: Machines,
    /// What to wait for: an answer of ssh; a system that is up, with its health-check; or that the machine is off
    #[arg(long = "for", value_name = "STATE", value_enum, default_value_t = State::Ssh)]
    state: State,
    /// Wait at most SECONDS for all machines together [default: 600]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum State {
    Ssh,
    Healthy,
    Off,
}

pub fn run(call: &Call, args: &Wait, terminal: &Terminal) -> Result<Shown> {
    let selection = args.machines.select(call)?;
    let names = selection.names();
    let goal = match args.state {
        State::Ssh => Goal::Ssh,
        State::Healthy => Goal::Healthy,
        State::Off => Goal::Off,
    };
    if names.len() > 1 {
        ops::require_all(call, selection.named(), Needs::Domain)?;
    }
    let limit = args.timeout.unwrap_or(SSH_LIMIT);
    let waited = ops::wait(call, &names, goal, limit, terminal)?;
    let mut shown = Shown::said(&waited);
    if let Some(late) = late(&waited, limit) {
        let report = Report::of(&late.into());
        terminal.rest();
        terminal.line(&error_text(&report));
        shown.exit_code = report.exit_code;
    }
    Ok(shown)
}

/// Returns the failure that names the machines that are not there; `None` if all are.
fn late(waited: &[Waited], limit: Duration) -> Option<Failure> {
    let late: Vec<&Waited> = waited.iter().filter(|waited| !waited.reached).collect();
    let first = late.first()?;
    let why =
        late.iter().map(|late| format!("{}: {}", late.machine, late.why.as_deref().unwrap_or_default()));
    let (of, name) = (waited.len(), &first.machine);
    let message = match late.len() {
        1 => format!("{name} did not {} within {} s", first.goal, limit.as_secs()),
        some => format!("{some} of {of} machines did not {} within {} s", first.goal, limit.as_secs()),
    };
    let hint = match first.goal {
        Goal::Off => format!("`nixvm stop {name}` shuts it down"),
        Goal::Ssh | Goal::Healthy => {
            format!("`nixvm status {name}` shows its state, `nixvm console {name}` its console")
        }
    };
    let why = anyhow::Error::msg(why.collect::<Vec<_>>().join("\n"));
    Some(Failure::late(message).because(why).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_are_late_are_named_with_the_reason() {
        let waited = |name: &str, why: Option<&str>| Waited {
            machine: name.parse().unwrap(),
            goal: Goal::Healthy,
            reached: why.is_none(),
            ssh: None,
            why: why.map(str::to_owned),
            seconds: 1.0,
        };
        let report =
            |waited: &[Waited]| late(waited, Duration::from_secs(5)).map(|late| Report::of(&late.into()));
        assert_eq!(report(&[waited("db", None)]), None);
        let one = report(&[waited("db", None), waited("web", Some("it is off"))]).unwrap();
        assert_eq!((one.error.as_str(), one.exit_code), ("web did not become healthy within 5 s", 4));
        let two = report(&[waited("db", Some("it is paused")), waited("web", Some("it is off"))]).unwrap();
        assert_eq!(two.error, "2 of 2 machines did not become healthy within 5 s");
        assert_eq!(two.causes, ["db: it is paused\nweb: it is off"]);
    }
}
