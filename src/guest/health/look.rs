//! Observes a guest from the host: whether its agent and its ssh answer, and what systemd says to either.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use crate::guest::login::ask;
use crate::guest::{Place, answering, place};
use crate::host::Setup;
use crate::hypervisor::Owned;
use crate::model::observation::unit_names;
use crate::model::{Machine, Observation, System};
use crate::work::Work;

/// How often a guest that boots is observed.
pub(super) const POLL: Duration = Duration::from_secs(1);

/// How long a guest may take to tell its state: a busy one without KVM needs seconds.
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// Prints systemd's state as a word, the failed units as JSON, and, once everything was started, the properties that show which
/// services are restarted (systemd.service(5), `Restart=`).
const QUESTION: &str = "state=$(systemctl is-system-running); echo \"$state\"; \
    systemctl list-units --state=failed --output=json --no-pager; echo; \
    case $state in initializing | starting) ;; \
    *) systemctl show --property=Id,SubState,Result,NRestarts --no-pager -- '*.service' ;; esac; exit 0";

/// How a guest's ssh is observed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ssh {
    /// It answered before, and is not asked again: sshd(8) locks out a client that often leaves without logging in.
    Answered,
    Ask,
    /// It is asked for its banner once the agent says that everything was started. At a forwarded port, each earlier question
    /// takes its whole time, and delays the observation of everything else.
    AskLate,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    pub(super) seen: Observation,
    /// The units that have failed and wait for a restart.
    pub(super) restless: BTreeSet<String>,
}

/// Observes a guest, twice if it does not tell its state the first time.
pub fn observe(work: &Work, domain: &Owned, machine: &Machine) -> Observation {
    let seen = look(work.setup, domain, machine, Ssh::Ask).seen;
    // A busy agent may miss one question, and what is not observed now cannot be compared later.
    if seen.system.is_some() {
        return seen;
    }
    look(work.setup, domain, machine, if seen.ssh { Ssh::Answered } else { Ssh::Ask }).seen
}

/// Observes a guest once.
pub fn glance(work: &Work, domain: &Owned, machine: &Machine) -> Observation {
    look(work.setup, domain, machine, Ssh::Ask).seen
}

pub(super) fn look(setup: &Setup, domain: &Owned, machine: &Machine, ssh: Ssh) -> Look {
    let agent = domain.agent_answers();
    let ask_agent = || domain.agent_run(&["/bin/sh", "-c", QUESTION], ASK_LIMIT).ok();
    let by_agent = agent.then(ask_agent).flatten().and_then(|output| answer(&output.stdout));
    let ready = by_agent.as_ref().is_some_and(|look| look.seen.system != Some(System::Starting));
    let at = match ssh {
        Ssh::Answered => place(setup, domain, machine.mac),
        // Questions whose answers change nothing yet would slow the boot down.
        Ssh::Ask if ready || by_agent.is_none() => answering(setup, domain, machine.mac),
        Ssh::AskLate if ready => answering(setup, domain, machine.mac),
        Ssh::Ask | Ssh::AskLate => Place::Unknown,
    };
    let at = at.known();
    let by_ssh = || at.and_then(|at| ask(machine, setup, &at, QUESTION)).and_then(|said| answer(&said));
    let mut look = by_agent.or_else(by_ssh).unwrap_or_default();
    look.seen.agent = agent;
    look.seen.ssh = ssh == Ssh::Answered || at.is_some();
    look
}

/// Reads the answer to [`QUESTION`], which does not say how it was asked.
fn answer(said: &str) -> Option<Look> {
    #[derive(Deserialize)]
    struct Unit {
        unit: String,
    }
    let (word, rest) = said.split_once('\n')?;
    // The JSON value ends where the properties of services begin, a block for each.
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Vec<Unit>>();
    let failed = values.next()?.ok()?;
    let services = rest.get(values.byte_offset()..).unwrap_or_default();
    let (mut restarted, mut restless) = (Vec::new(), Vec::new());
    for service in services.split("\n\n") {
        let value = |name: &str| {
            service.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
        };
        let waits = value("SubState").starts_with("auto-restart");
        if waits || value("NRestarts").parse::<u32>().is_ok_and(|count| count > 0) {
            restarted.push(value("Id"));
        }
        // A service that succeeds and is restarted by design is no fault.
        if waits && value("Result") != "success" {
            restless.push(value("Id"));
        }
    }
    let seen = Observation {
        system: Some(System::from_word(word.trim())),
        failed: unit_names(failed.iter().map(|unit| unit.unit.as_str())),
        restarting: unit_names(restarted),
        ..Observation::default()
    };
    Some(Look { seen, restless: unit_names(restless) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Command;

    #[test]
    fn systemds_answer_is_read() {
        let said = "degraded\n[{\"unit\":\"a.service\",\"load\":\"loaded\",\"active\":\"failed\",\"sub\":\"failed\",\"description\":\"A\"}]\n";
        let degraded = answer(said).unwrap().seen;
        assert_eq!(
            (degraded.system, degraded.failed),
            (Some(System::Degraded), ["a.service".to_owned()].into())
        );
        let running = answer("running\n[]\n").unwrap().seen;
        assert_eq!((running.system, running.failed.len()), (Some(System::Running), 0));
        for bad in ["", "running", "running\n", "sh: systemctl: not found\n"] {
            assert!(answer(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_shell_asks_what_the_answer_is_read_from() {
        let systemctl = |word: &str| {
            format!(
                "systemctl() {{ case $1 in is-system-running) echo {word}; return 1 ;; \
                 list-units) echo '[{{\"unit\":\"a.service\"}}]' ;; \
                 show) printf 'Id=b.service\\nSubState=auto-restart\\nResult=exit-code\\nNRestarts=2\\n' ;; esac; }}; {QUESTION}"
            )
        };
        let said = |word: &str| {
            let said = Command::new("sh").arg("-c").arg(systemctl(word)).output().unwrap();
            answer(&String::from_utf8(said).unwrap()).unwrap()
        };
        let Look { seen, restless } = said("degraded");
        assert_eq!((seen.system, seen.failed), (Some(System::Degraded), ["a.service".to_owned()].into()));
        assert_eq!(restless, ["b.service".to_owned()].into());
        assert_eq!(said("starting").seen.restarting, [].into(), "one that boots is not kept busy");
    }

    #[test]
    fn a_service_that_fails_again_and_again_is_told_from_one_that_runs_again_by_design() {
        let said = "running\n[]\n\nResult=exit-code\nNRestarts=3\nId=flaps.service\nSubState=auto-restart\n\n\
                    Result=success\nNRestarts=9\nId=poll.service\nSubState=auto-restart\n\n\
                    Result=success\nNRestarts=1\nId=once.service\nSubState=running\n\n\
                    Result=success\nNRestarts=0\nId=well.service\nSubState=running\n";
        let answer = answer(said).unwrap();
        assert_eq!(answer.restless, ["flaps.service".to_owned()].into());
        let restarted = ["flaps", "once", "poll"].map(|name| format!("{name}.service"));
        assert_eq!(answer.seen.restarting, restarted.into());
    }
}
