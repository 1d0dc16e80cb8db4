//! Waits until it is clear how a guest comes up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::error::{Failure, Result, Said};
use crate::guest::serial::{self, Told};
use crate::host::accelerator;
use crate::interrupt;
use crate::model::domain::Accelerator;
use crate::model::{Machine, Observation, System};
use crate::work::Work;

use super::check::check;
use super::judge::{Moment, Verdict, judge, new_failures, new_restless};
use super::look::{Look, POLL, Ssh, look};
use super::words;

/// Lines of the serial log that a failure shows.
const LOG_LINES: usize = 12;

/// For how long a unit that fails again and again has to be quiet before it counts as well.
const QUIET: Duration = Duration::from_secs(15);

/// The units that say why a guest that runs cannot be reached.
const NETWORK: [&str; 4] = ["sshd.service", "ssh.service", "systemd-networkd.service", "firewall.service"];

/// Returns how long a guest is given to come up.
///
/// *Measured* on two cores under TCG: 47 s on an idle host, 90 s on a busy one.
pub fn limit(accelerator: Accelerator) -> Duration {
    match accelerator {
        Accelerator::Kvm => Duration::from_secs(180),
        Accelerator::Tcg => Duration::from_secs(600),
    }
}

/// What came of waiting for a guest.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// Why it is not well; `None` where it is.
    pub fault: Option<String>,
    /// When its ssh or its agent answered first.
    pub answered: Option<Instant>,
    /// How it was at the end.
    pub seen: Observation,
    /// What its units or the health check said of the fault.
    pub said: Vec<Said>,
    /// What it printed on its serial port.
    pub log: String,
}

impl Judged {
    /// Returns the judgement of a guest that could not even be switched on.
    pub fn fault(fault: String) -> Self {
        Judged { fault: Some(fault), ..Judged::default() }
    }
}

/// Units of a guest that fail again and again, as far as that was seen.
#[derive(Default)]
struct Restless(BTreeMap<String, Instant>);

impl Restless {
    /// Takes note of those that are about to be started again, and returns all that were a moment ago.
    fn now(&mut self, units: BTreeSet<String>) -> BTreeSet<String> {
        self.0.extend(units.into_iter().map(|unit| (unit, Instant::now())));
        self.0.iter().filter(|(_, last)| last.elapsed() < QUIET).map(|(unit, _)| unit.clone()).collect()
    }
}

/// Waits until it is clear how a guest that was switched on comes up, and returns that.
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
    let (mut well, mut restless) = (None::<Instant>, Restless::default());
    let mut last = Moment::default();
    let mut reason = String::new();
    let ended = interrupt::poll(limit, POLL, || {
        let off = !domain.state()?.is_active();
        let ssh = match last.seen.ssh {
            true => Ssh::Answered,
            false if before.agent && began.elapsed() < limit / 4 => Ssh::AskLate,
            false => Ssh::Ask,
        };
        let looked = if off { Look::default() } else { look(work, &domain, machine, ssh) };
        let mut seen = looked.seen;
        seen.ssh |= last.seen.ssh && !off;
        if seen.answers() {
            answered.get_or_insert_with(Instant::now);
        }
        // What answers needs no log to explain it.
        let told = if seen.answers() { Told::default() } else { serial::tell(&log()) };
        last = Moment { off, told, seen, restless: restless.now(looked.restless) };
        let fault = match judge(before, &last) {
            Verdict::Healthy => {
                // A unit that was started again may fail once more, between two looks at it.
                let calm = last.seen.restarting.is_subset(&before.restarting);
                if calm || well.get_or_insert_with(Instant::now).elapsed() > QUIET {
                    return Ok(Some(None));
                }
                return Ok(None);
            }
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
        (reason, well) = (fault, None);
        Ok(None)
    })?;
    let mut fault = match ended {
        Some(fault) => fault,
        // It was well when the time was over, and only to be seen so for a little longer.
        None if well.is_some() => None,
        None => Some(format!("after {} s {reason}", began.elapsed().as_secs())),
    };
    let mut said = Vec::new();
    if fault.is_some() && last.seen.answers() {
        work.watch.step(&format!("Asking {} what went wrong", work.name));
        said = words::of(work.setup, &domain, machine, &question(before, &last));
    }
    if fault.is_none()
        && let Some((why, words)) = check(work, machine, &domain, limit.saturating_sub(began.elapsed()))?
    {
        (fault, said) = (Some(why), words);
    }
    Ok(Judged { fault, answered, seen: last.seen, said, log: log() })
}

/// Returns what is to be asked of a guest that answers and is not well.
fn question(before: &Observation, now: &Moment) -> words::Question {
    let mut units = new_failures(before, &now.seen);
    units.extend(new_restless(before, now));
    if before.ssh && !now.seen.ssh {
        units.extend(NETWORK.map(str::to_owned));
    }
    words::Question { jobs: units.is_empty() || now.seen.system == Some(System::Starting), units }
}

/// Returns why a guest is not well, as the cause of a failure: with what its units say or, where nobody could be asked, the
/// end of its serial log.
pub fn cause(fault: &str, judged: Option<&Judged>) -> Failure {
    let cause = Failure::user(fault);
    let Some(judged) = judged else { return cause };
    if !judged.said.is_empty() {
        return cause.said(judged.said.clone());
    }
    match serial::tail(&judged.log, LOG_LINES) {
        tail if tail.is_empty() => cause,
        tail => cause.because(anyhow::Error::msg(format!("the end of its serial log:\n{tail}"))),
    }
}

/// Tells of units that fail and were no reason to go back: silence would make them look like they work.
pub fn tell_failing(work: &Work, units: &[String]) {
    if !units.is_empty() {
        work.watch.note(&format!("these units of {} still fail: {}", work.name, units.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_follows_from_what_is_wrong() {
        let seen = |ssh, failed: &[&str]| Observation {
            agent: true,
            ssh,
            system: Some(System::Running),
            failed: failed.iter().map(ToString::to_string).collect(),
            ..Observation::default()
        };
        let asked = |now: Observation| {
            question(&seen(true, &["old.service"]), &Moment { seen: now, ..Moment::default() })
        };
        assert_eq!(asked(seen(true, &["new.service", "old.service"])).units, ["new.service"]);
        assert_eq!(asked(seen(false, &[])).units, NETWORK);
        let starting = Observation { system: Some(System::Starting), ..seen(true, &["new.service"]) };
        assert_eq!(asked(starting), words::Question { units: vec!["new.service".into()], jobs: true });
        assert_eq!(asked(seen(true, &[])), words::Question { units: vec![], jobs: true });
    }
}
