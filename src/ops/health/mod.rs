//! Whether a guest came up as well as it was before.
//!
//! How a guest is seen is apart from what follows from it: that is a pure function, [`judge()`].

mod judge;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::config;
use crate::error::{Failure, Report, Result};
use crate::exec::Command;
use crate::hypervisor::Owned;
use crate::interrupt;
use crate::model::domain::Accelerator;
use crate::model::{Machine, MachineName};

use super::accelerator::accelerator;
use super::reach::{answers_ssh, ask, endpoint};
use super::serial::{self, Told};
use super::work::Work;
pub use judge::{Moment, Observation, System, Verdict, judge};

/// How often a guest that boots is looked at.
const POLL: Duration = Duration::from_secs(1);

/// How long a command in the guest may take that asks for its state: a busy guest without KVM needs seconds.
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// Lines of the serial log that a failure shows.
const LOG_LINES: usize = 12;

/// How long one run of the user's health check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(60);

/// Asks systemd for its state, in words of its own, and for the failed units as JSON; the first always fails but for `running`.
const QUESTION: &str =
    "systemctl is-system-running; exec systemctl list-units --state=failed --output=json --no-pager";

/// Returns how long a guest is given to come up.
///
/// *Measured* on two cores under TCG: 47 s on an idle host, 90 s on a busy one.
pub fn limit(accelerator: Accelerator) -> Duration {
    match accelerator {
        Accelerator::Kvm => Duration::from_secs(180),
        Accelerator::Tcg => Duration::from_secs(600),
    }
}

/// What is to be done about a guest's ssh.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ssh {
    /// It answered before, and is not asked again: sshd(8) keeps out who often comes and leaves without logging in.
    Answered,
    /// It is asked for its banner.
    Ask,
    /// Only once the agent says that everything was started. Where a port is forwarded, each question before that
    /// takes its whole time, and what comes up meanwhile is not seen.
    AskLate,
}

/// Returns how a guest is now.
pub fn observe(work: &Work, domain: &Owned, machine: &Machine) -> Observation {
    let seen = look(work, domain, machine, Ssh::Ask);
    // A busy agent may miss one question, and what is not known of a machine now cannot be missed later.
    if seen.system.is_some() {
        return seen;
    }
    look(work, domain, machine, if seen.ssh { Ssh::Answered } else { Ssh::Ask })
}

fn look(work: &Work, domain: &Owned, machine: &Machine, ssh: Ssh) -> Observation {
    let agent = domain.agent_answers();
    let at = || endpoint(domain, machine.mac);
    let by_agent = if agent {
        domain.agent_run(&["/bin/sh", "-c", QUESTION], ASK_LIMIT).ok().and_then(|out| answer(&out.stdout))
    } else {
        None
    };
    let ready = by_agent.as_ref().is_some_and(|(system, _)| *system != System::Starting);
    let asked = match ssh {
        Ssh::Answered | Ssh::AskLate => ready,
        // Its own boot is not to be slowed down by questions whose answers change nothing yet.
        Ssh::Ask => ready || by_agent.is_none(),
    };
    let ssh = ssh == Ssh::Answered || asked && at().is_some_and(|at| answers_ssh(work.setup, &at));
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
    let mut answered_ssh = false;
    let mut reason = String::new();
    let ended = interrupt::poll(limit, POLL, || {
        let off = !domain.state()?.is_active();
        let ssh = match answered_ssh {
            true => Ssh::Answered,
            false if before.agent && began.elapsed() < limit / 4 => Ssh::AskLate,
            false => Ssh::Ask,
        };
        let seen = if off { Observation::default() } else { look(work, &domain, machine, ssh) };
        answered_ssh |= seen.ssh;
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

/// Returns why a guest is not well, as the cause of a failure: the end of its serial log below it.
pub fn cause(fault: &str, log: &str) -> Failure {
    let cause = Failure::user(fault);
    match serial::tail(log, LOG_LINES) {
        tail if tail.is_empty() => cause,
        tail => cause.because(anyhow::Error::msg(format!("the end of its serial log:\n{tail}"))),
    }
}

/// Runs the user's health check, again and again where it fails, and returns why the machine does not pass it.
fn check(work: &Work, machine: &Machine, domain: &Owned, left: Duration) -> Result<Option<String>> {
    let Some(program) = config::health_check(&work.setup.workspace, &work.name)? else { return Ok(None) };
    work.watch.step(&format!("Running the health check of {}", work.name));
    let at = endpoint(domain, machine.mac);
    // So that `nixvm ssh` in it means this workspace and this libvirt.
    let command = health_check(program, &work.name, at)
        .current_dir(work.setup.workspace.root())
        .env("NIXVM_CONNECT", &work.setup.connect);
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
fn health_check(program: PathBuf, name: &MachineName, at: Option<SocketAddr>) -> Command {
    let address = at.map(|at| at.ip().to_string()).unwrap_or_default();
    Command::new(program)
        .arg(&address)
        .env("NIXVM_MACHINE", name.as_str())
        .env("NIXVM_ADDRESS", address)
        .env("NIXVM_SSH_PORT", at.map(|at| at.port().to_string()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let web: MachineName = "web".parse().unwrap();
        let at = SocketAddr::from(([10, 0, 0, 7], 22));
        let command = |program: &str, at| health_check(program.into(), &web, at);
        assert_eq!(command("/w/health-check", Some(at)).to_string(), "/w/health-check 10.0.0.7");
        assert_eq!(command("/w/health-check", None).to_string(), "/w/health-check ''");
        // `sh` reads what its argument names: a stand-in for a program that somebody else has just written.
        let dir = tempfile::tempdir().unwrap();
        let script = "echo $NIXVM_MACHINE $NIXVM_ADDRESS $NIXVM_SSH_PORT\n";
        std::fs::write(dir.path().join("10.0.0.7"), script).unwrap();
        let said = command("/bin/sh", Some(at)).current_dir(dir.path()).output().unwrap();
        assert_eq!(String::from_utf8(said).unwrap(), "web 10.0.0.7 22\n");
    }
}
