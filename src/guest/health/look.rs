//! How a guest is seen from the host: by its agent, by its ssh server, and by what systemd says to either.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use crate::guest::login::ask;
use crate::guest::{answering, place};
use crate::hypervisor::Owned;
use crate::model::observation::unit_names;
use crate::model::{Machine, Observation, System};
use crate::work::Work;

/// How often a guest that boots is looked at.
pub(super) const POLL: Duration = Duration::from_secs(1);

/// How long a command in the guest may take that asks for its state: a busy guest without KVM needs seconds.
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// Asks systemd for its state, in words of its own, for the failed units as JSON, and, once it has started everything, for
/// what tells of services that are started again and again (systemd.service(5), `Restart=`).
const QUESTION: &str = "state=$(systemctl is-system-running); echo \"$state\"; \
    systemctl list-units --state=failed --output=json --no-pager; echo; \
    case $state in initializing | starting) ;; \
    *) systemctl show --property=Id,SubState,Result,NRestarts --no-pager -- '*.service' ;; esac; exit 0";

/// What is to be done about a guest's ssh.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ssh {
    /// It answered before, and is not asked again: sshd(8) keeps out who often comes and leaves without logging in.
    Answered,
    /// It is asked for its banner.
    Ask,
    /// Only once the agent says that everything was started. Where a port is forwarded, each question before that
    /// takes its whole time, and what comes up meanwhile is not seen.
    AskLate,
}

/// What is seen of a guest at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    pub(super) seen: Observation,
    /// The units that have failed and are about to be started again.
    pub(super) restless: BTreeSet<String>,
}

/// Returns how a guest is now.
pub fn observe(work: &Work, domain: &Owned, machine: &Machine) -> Observation {
    let seen = look(work, domain, machine, Ssh::Ask).seen;
    // A busy agent may miss one question, and what is not known of a machine now cannot be missed later.
    if seen.system.is_some() {
        return seen;
    }
    look(work, domain, machine, if seen.ssh { Ssh::Answered } else { Ssh::Ask }).seen
}

/// Returns how a guest is now, as far as one question tells.
pub fn glance(work: &Work, domain: &Owned, machine: &Machine) -> Observation {
    look(work, domain, machine, Ssh::Ask).seen
}

/// Returns what is seen of a guest now.
pub(super) fn look(work: &Work, domain: &Owned, machine: &Machine, ssh: Ssh) -> Look {
    let agent = domain.agent_answers();
    let by_agent = if agent {
        domain.agent_run(&["/bin/sh", "-c", QUESTION], ASK_LIMIT).ok().and_then(|out| answer(&out.stdout))
    } else {
        None
    };
    let ready = by_agent.as_ref().is_some_and(|answer| answer.system != System::Starting);
    let asked = match ssh {
        Ssh::Answered | Ssh::AskLate => ready,
        // Its own boot is not to be slowed down by questions whose answers change nothing yet.
        Ssh::Ask => ready || by_agent.is_none(),
    };
    let at = match ssh {
        Ssh::Answered => place(work.setup, domain, machine.mac).known(),
        Ssh::Ask | Ssh::AskLate if asked => answering(work.setup, domain, machine.mac).known(),
        Ssh::Ask | Ssh::AskLate => None,
    };
    let ssh = ssh == Ssh::Answered || at.is_some();
    let by_ssh = || at.and_then(|at| ask(machine, work.setup, &at, QUESTION)).and_then(|said| answer(&said));
    let Some(answer) = by_agent.or_else(by_ssh) else {
        return Look { seen: Observation { agent, ssh, ..Observation::default() }, ..Look::default() };
    };
    Look {
        seen: Observation {
            agent,
            ssh,
            system: Some(answer.system),
            failed: answer.failed,
            restarting: answer.restarted,
        },
        restless: answer.restless,
    }
}

/// What systemd answers to [`QUESTION`].
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    system: System,
    failed: BTreeSet<String>,
    /// The units that were started again since the boot, or are about to be.
    restarted: BTreeSet<String>,
    /// Those of them that failed and are about to be.
    restless: BTreeSet<String>,
}

/// Returns what the answer to [`QUESTION`] says.
fn answer(said: &str) -> Option<Answer> {
    #[derive(Deserialize)]
    struct Unit {
        unit: String,
    }
    let (word, rest) = said.split_once('\n')?;
    // The first value; behind it come the properties of services, a block for each.
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
        // One that ends well and is begun again by design is no fault.
        if waits && value("Result") != "success" {
            restless.push(value("Id"));
        }
    }
    Some(Answer {
        system: System::from_word(word.trim()),
        failed: unit_names(failed.iter().map(|unit| unit.unit.as_str())),
        restarted: unit_names(restarted),
        restless: unit_names(restless),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Command;

    #[test]
    fn systemds_answer_is_read() {
        let said = "degraded\n[{\"unit\":\"a.service\",\"load\":\"loaded\",\"active\":\"failed\",\"sub\":\"failed\",\"description\":\"A\"}]\n";
        let degraded = answer(said).unwrap();
        assert_eq!((degraded.system, degraded.failed), (System::Degraded, ["a.service".to_owned()].into()));
        let running = answer("running\n[]\n").unwrap();
        assert_eq!((running.system, running.failed.len()), (System::Running, 0));
        for bad in ["", "running", "running\n", "sh: systemctl: not found\n"] {
            assert_eq!(answer(bad), None, "{bad:?}");
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
        let degraded = said("degraded");
        assert_eq!((degraded.system, degraded.failed), (System::Degraded, ["a.service".to_owned()].into()));
        assert_eq!(degraded.restless, ["b.service".to_owned()].into());
        assert_eq!(said("starting").restarted, [].into(), "one that boots is not kept busy");
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
        assert_eq!(answer.restarted, restarted.into());
    }
}
