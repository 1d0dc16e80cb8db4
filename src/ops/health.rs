//! Whether a guest came up as well as it was before.
//!
//! How a guest is seen, [`Observation`], is apart from what follows of it, [`judge()`]: that is a pure function.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config;
use crate::error::{Report, Result};
use crate::exec::Command;
use crate::hypervisor::Owned;
use crate::interrupt;
use crate::model::Machine;
use crate::model::domain::Accelerator;

use super::accelerator::accelerator;
use super::reach::{answers_ssh, ask, endpoint};
use super::serial::{self, Told};
use super::work::Work;

/// How often a guest that boots is looked at.
const POLL: Duration = Duration::from_secs(1);

/// How long a command in the guest may take that asks for its state: a busy guest without KVM needs seconds.
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// How long one run of the user's health check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(60);

/// How often the firmware must have begun to boot before it counts as a loop.
const LOOP: usize = 4;

/// Asks systemd for its state, in words of its own, and for the failed units as JSON; the first always fails but for `running`.
const QUESTION: &str =
    "systemctl is-system-running; exec systemctl list-units --state=failed --output=json --no-pager";

/// What systemd says of the whole system (systemctl(1), `is-system-running`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// It has not started everything yet.
    Starting,
    /// All that was to be started was, and works.
    Running,
    /// All that was to be started was, and some of it failed.
    Degraded,
    /// It gave up and waits for a person.
    Maintenance,
    /// It is on its way down, or in a state that nixvm does not know.
    Other,
}

impl System {
    fn from_word(word: &str) -> Self {
        match word {
            "initializing" | "starting" => System::Starting,
            "running" => System::Running,
            "degraded" => System::Degraded,
            "maintenance" => System::Maintenance,
            _ => System::Other,
        }
    }
}

/// What can be seen of a guest from the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// Whether its agent answers.
    pub agent: bool,
    /// Whether its ssh server does.
    pub ssh: bool,
    /// What systemd says; `None` where nobody could be asked.
    pub system: Option<System>,
    /// The units that have failed.
    pub failed: BTreeSet<String>,
}

impl Observation {
    fn answers(&self) -> bool {
        self.agent || self.ssh
    }
}

/// A guest that boots, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    /// Whether it is off.
    pub off: bool,
    /// What its serial log tells of this boot.
    pub told: Told,
    /// What can be seen of it.
    pub seen: Observation,
}

/// What follows of what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is as well as before.
    Healthy,
    /// It is too early to tell, for this reason.
    Early(String),
    /// It has started everything and still lacks this; that may come a little later.
    Lacking(String),
    /// It is not, for this reason, and will not become so.
    Unhealthy(String),
}

/// Returns what follows for a guest that was `before` from what is `now`.
pub fn judge(before: &Observation, now: &Moment) -> Verdict {
    let seen = &now.seen;
    if let Some(panic) = &now.told.panic {
        return Verdict::Unhealthy(format!("its kernel gave up: {panic}"));
    }
    if now.off {
        return Verdict::Unhealthy("it switched itself off while it was starting".into());
    }
    if now.told.boots >= LOOP && !seen.answers() {
        return Verdict::Unhealthy(format!("it began to boot {} times", now.told.boots));
    }
    if !seen.answers() {
        return Verdict::Early("neither its agent nor ssh answers".into());
    }
    let new: Vec<&str> = seen.failed.difference(&before.failed).map(String::as_str).collect();
    match seen.system {
        Some(System::Starting) => return Verdict::Early("it is still starting".into()),
        Some(System::Maintenance) => {
            return Verdict::Unhealthy("its start failed, and it waits for a person at its console".into());
        }
        Some(System::Other) => return Verdict::Early("systemd is in no state to tell".into()),
        // Nobody can be asked where nobody could before either: then an answer has to be enough.
        None if before.system.is_some() => {
            return Verdict::Lacking("nobody in it can be asked for its state any more".into());
        }
        Some(System::Degraded) if !new.is_empty() => {
            return Verdict::Unhealthy(format!("units failed that had not before: {}", new.join(", ")));
        }
        Some(System::Running | System::Degraded) | None => {}
    }
    // An agent answers without a network.
    if before.ssh && !seen.ssh {
        return Verdict::Lacking("ssh does not answer, and did before".into());
    }
    Verdict::Healthy
}

/// Returns how long a guest is given to come up.
///
/// *Measured* on two cores under TCG: 47 s on an idle host, 90 s on a busy one.
pub fn limit(accelerator: Accelerator) -> Duration {
    match accelerator {
        Accelerator::Kvm => Duration::from_secs(180),
        Accelerator::Tcg => Duration::from_secs(600),
    }
}

/// Returns how a guest is now.
pub fn observe(work: &Work, domain: &Owned, machine: &Machine) -> Observation {
    look(work, domain, machine, false)
}

/// Looks at a guest. Its ssh, once it has answered, is not asked for its banner again: sshd(8) keeps out who often
/// comes and leaves without logging in.
fn look(work: &Work, domain: &Owned, machine: &Machine, ssh_answered: bool) -> Observation {
    let agent = domain.agent_answers();
    let at = || endpoint(domain, machine.mac);
    let by_agent = if agent {
        domain.agent_run(&["/bin/sh", "-c", QUESTION], ASK_LIMIT).ok().and_then(|out| answer(&out.stdout))
    } else {
        None
    };
    let starting = by_agent.as_ref().is_some_and(|(system, _)| *system == System::Starting);
    // Its own boot is not to be slowed down by questions whose answers change nothing yet.
    let ssh = ssh_answered || !starting && at().is_some_and(|at| answers_ssh(&at));
    let by_ssh = || {
        at().filter(|_| ssh).and_then(|at| ask(machine, work.setup, &at, QUESTION)).and_then(|s| answer(&s))
    };
    let (system, failed) = by_agent.or_else(by_ssh).unzip();
    Observation { agent, ssh, system, failed: failed.unwrap_or_default() }
}

/// Returns what the answer to [`QUESTION`] says.
fn answer(said: &str) -> Option<(System, BTreeSet<String>)> {
    #[derive(Deserialize)]
    struct Unit {
        unit: String,
    }
    let (word, units) = said.split_once('\n')?;
    let units: Vec<Unit> = serde_json::from_str(units).ok()?;
    Some((System::from_word(word.trim()), units.into_iter().map(|unit| unit.unit).collect()))
}

/// What came of waiting for a guest.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Why it is not well; `None` where it is.
    pub fault: Option<String>,
    /// When its ssh or its agent answered first.
    pub answered: Option<Instant>,
    /// What it printed on its serial port.
    pub log: String,
}

/// Waits until it is clear how a guest that was switched on comes up, and returns that.
///
/// # Errors
/// libvirt does not answer, the health check is not to be trusted, or an interruption.
pub fn wait(
    work: &Work,
    machine: &Machine,
    before: &Observation,
    log_mark: u64,
    timeout: Option<Duration>,
) -> Result<Judged> {
    let limit = match timeout {
        Some(limit) => limit,
        None => limit(accelerator(work.setup, &work.host, work.watch)?),
    };
    let (domain, pool) = (work.domain()?, work.pool()?);
    let stem = &domain.metadata().stem;
    let log = || serial::since(&pool, stem, log_mark);
    work.watch.step(&format!("Waiting for {} to come up", work.name));
    let (began, mut answered, mut lacking) = (Instant::now(), None, None::<Instant>);
    let mut ssh = false;
    let mut reason = String::new();
    let ended = interrupt::poll(limit, POLL, || {
        let off = !domain.state()?.is_active();
        let seen = if off { Observation::default() } else { look(work, &domain, machine, ssh) };
        ssh |= seen.ssh;
        if seen.answers() {
            answered.get_or_insert_with(Instant::now);
        }
        // What answers needs no log to explain it.
        let told = if seen.answers() { Told::default() } else { serial::tell(&log()) };
        let fault = match judge(before, &Moment { off, told, seen }) {
            Verdict::Healthy => return Ok(Some(None)),
            Verdict::Unhealthy(fault) => return Ok(Some(Some(fault))),
            Verdict::Early(why) => {
                lacking = None;
                why
            }
            Verdict::Lacking(why) => {
                if lacking.get_or_insert_with(Instant::now).elapsed() > limit / 4 {
                    return Ok(Some(Some(why)));
                }
                why
            }
        };
        reason = fault;
        Ok(None)
    })?;
    let mut fault = ended.unwrap_or_else(|| Some(format!("after {} s {reason}", began.elapsed().as_secs())));
    if fault.is_none() {
        fault = check(work, machine, &domain, limit.saturating_sub(began.elapsed()))?;
    }
    Ok(Judged { fault, answered, log: log() })
}

/// Runs the user's health check, again and again where it fails, and returns why the machine does not pass it.
fn check(work: &Work, machine: &Machine, domain: &Owned, left: Duration) -> Result<Option<String>> {
    let Some(program) = config::health_check(&work.setup.workspace, &work.name)? else { return Ok(None) };
    work.watch.step(&format!("Running the health check of {}", work.name));
    let address = endpoint(domain, machine.mac).map(|at| at.ip().to_string()).unwrap_or_default();
    let command = health_check(program, work.name.as_str(), &address);
    let mut fault = String::new();
    let passed = interrupt::poll(left.min(CHECK_LIMIT), POLL, || {
        match command.output_within(CHECK_LIMIT) {
            Ok(_) => return Ok(Some(())),
            Err(error) => {
                interrupt::check()?;
                let report = Report::of(&error);
                fault = std::iter::once(report.error).chain(report.causes).collect::<Vec<_>>().join("\n");
            }
        }
        Ok(None)
    })?;
    Ok(passed.is_none().then_some(fault))
}

/// Returns the command of a health check: the guest's address is its argument, empty where it is not known.
fn health_check(program: std::path::PathBuf, name: &str, address: &str) -> Command {
    Command::new(program).arg(address).env("NIXVM_MACHINE", name).env("NIXVM_ADDRESS", address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(agent: bool, ssh: bool, system: Option<System>, failed: &[&str]) -> Observation {
        Observation { agent, ssh, system, failed: failed.iter().map(ToString::to_string).collect() }
    }

    fn well() -> Observation {
        seen(true, true, Some(System::Running), &[])
    }

    fn verdict(before: &Observation, seen: Observation) -> Verdict {
        judge(before, &Moment { seen, ..Moment::default() })
    }

    fn unhealthy(verdict: &Verdict, word: &str) -> bool {
        matches!(verdict, Verdict::Unhealthy(reason) if reason.contains(word))
    }

    #[test]
    fn a_guest_that_is_as_before_is_healthy() {
        let degraded = |failed: &[&str]| seen(true, true, Some(System::Degraded), failed);
        for (before, now) in [
            (well(), well()),
            (degraded(&["a.service"]), well()),
            (degraded(&["a.service", "b.service"]), degraded(&["b.service"])),
            // ssh alone, and nobody who can log in, as before.
            (seen(false, true, None, &[]), seen(false, true, None, &[])),
            // Nothing answered before: whatever answers now is better.
            (Observation::default(), seen(true, false, Some(System::Running), &[])),
            // An agent that is gone is missed by nobody as long as ssh can tell.
            (well(), seen(false, true, Some(System::Running), &[])),
        ] {
            assert_eq!(verdict(&before, now.clone()), Verdict::Healthy, "{before:?} -> {now:?}");
        }
    }

    #[test]
    fn a_unit_that_had_not_failed_before_is_named() {
        let before = seen(true, true, Some(System::Degraded), &["old.service"]);
        let now = seen(true, true, Some(System::Degraded), &["old.service", "new.service"]);
        let verdict = verdict(&before, now);
        assert!(unhealthy(&verdict, "new.service") && !unhealthy(&verdict, "old.service"), "{verdict:?}");
    }

    #[test]
    fn what_answered_before_has_to_answer_again() {
        let now = seen(true, false, Some(System::Running), &[]);
        assert!(matches!(verdict(&well(), now.clone()), Verdict::Lacking(_)));
        assert_eq!(verdict(&seen(true, false, Some(System::Running), &[]), now), Verdict::Healthy);
        let mute = seen(false, true, None, &[]);
        assert!(matches!(verdict(&well(), mute), Verdict::Lacking(_)));
    }

    #[test]
    fn what_is_on_its_way_is_waited_for() {
        for now in [
            Observation::default(),
            seen(true, true, Some(System::Starting), &["new.service"]),
            seen(true, true, Some(System::Other), &[]),
        ] {
            assert!(matches!(verdict(&well(), now.clone()), Verdict::Early(_)), "{now:?}");
        }
    }

    #[test]
    fn what_cannot_get_better_is_certain() {
        let moment = |change: fn(&mut Moment)| {
            let mut moment = Moment::default();
            change(&mut moment);
            judge(&well(), &moment)
        };
        assert!(unhealthy(&moment(|m| m.off = true), "switched itself off"));
        assert!(unhealthy(&moment(|m| m.told.panic = Some("Kernel panic".into())), "Kernel panic"));
        assert!(unhealthy(&moment(|m| m.told.boots = LOOP), "4 times"));
        assert!(matches!(moment(|m| m.told.boots = 1), Verdict::Early(_)));
        assert!(unhealthy(&verdict(&well(), seen(true, true, Some(System::Maintenance), &[])), "console"));
    }

    #[test]
    fn systemds_answer_is_read() {
        let said = "degraded\n[{\"unit\":\"a.service\",\"load\":\"loaded\",\"active\":\"failed\",\"sub\":\"failed\",\"description\":\"A\"}]\n";
        assert_eq!(answer(said), Some((System::Degraded, ["a.service".to_owned()].into())));
        assert_eq!(answer("running\n[]\n"), Some((System::Running, BTreeSet::new())));
        for bad in ["", "running", "running\n", "sh: systemctl: not found\n"] {
            assert_eq!(answer(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_health_check_is_told_whom_it_is_about() {
        let command = health_check("/w/machines/web/health-check".into(), "web", "10.0.0.7");
        assert_eq!(command.to_string(), "/w/machines/web/health-check 10.0.0.7");
        let told = health_check("/bin/sh".into(), "-c", "").output().is_ok();
        assert!(told);
        let script = Command::new("/bin/sh").args(["-c", "echo $NIXVM_MACHINE $NIXVM_ADDRESS"]);
        let said = script.env("NIXVM_MACHINE", "web").env("NIXVM_ADDRESS", "10.0.0.7").output().unwrap();
        assert_eq!(said, b"web 10.0.0.7\n");
    }
}
