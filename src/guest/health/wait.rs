//! Waits until a guest that boots can be judged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::guest::serial::{self, BootLog};
use crate::host::accelerator;
use crate::interrupt;
use crate::model::domain::Accelerator;
use crate::model::{Machine, Observation, System};
use crate::work::Work;

use super::check::check;
use super::judge::{Sample, Verdict, judge, new_failures, new_restless};
use super::look::{Look, POLL, Ssh, look};
use super::report::Judged;
use super::words;

/// How long a unit that failed repeatedly must be quiet before the guest counts as healthy.
const QUIET: Duration = Duration::from_secs(15);

/// The units that may say why a guest that runs cannot be reached.
const NETWORK: [&str; 4] = ["sshd.service", "ssh.service", "systemd-networkd.service", "firewall.service"];

/// Returns how long a guest gets to come up.
///
/// *Measured* on two cores under TCG: 47 s on an idle host, 90 s on a busy one.
pub fn limit(accelerator: Accelerator) -> Duration {
    match accelerator {
        Accelerator::Kvm => Duration::from_secs(180),
        Accelerator::Tcg => Duration::from_secs(600),
    }
}

/// Units of a guest that failed and waited for a restart, and when that was last seen.
#[derive(Default)]
struct Restless(BTreeMap<String, Instant>);

impl Restless {
    /// Adds those of one observation, and returns all of the last [`QUIET`] period.
    fn now(&mut self, units: BTreeSet<String>) -> BTreeSet<String> {
        self.0.extend(units.into_iter().map(|unit| (unit, Instant::now())));
        self.0.iter().filter(|(_, last)| last.elapsed() < QUIET).map(|(unit, _)| unit.clone()).collect()
    }
}

/// Waits until a guest that was switched on can be judged, and judges it. `log_mark` is the length of its serial log before, in
/// bytes. A health check that is not to be trusted is an error.
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
    let (began, mut answered) = (Instant::now(), None);
    let (mut healthy, mut lacking) = (None::<Instant>, None::<Instant>);
    let (mut restless, mut last, mut reason) = (Restless::default(), Sample::default(), String::new());
    let ended = interrupt::poll(limit, POLL, || {
        let off = !domain.state()?.is_active();
        let ssh = if last.seen.ssh {
            Ssh::Answered
        } else if before.agent && began.elapsed() < limit / 4 {
            Ssh::AskLate
        } else {
            Ssh::Ask
        };
        let looked = if off { Look::default() } else { look(work.setup, &domain, machine, ssh) };
        let mut seen = looked.seen;
        seen.ssh |= last.seen.ssh && !off;
        if seen.answers() {
            answered.get_or_insert_with(Instant::now);
        }
        // The log only matters while the guest does not answer.
        let log = if seen.answers() { BootLog::default() } else { serial::parse(&log()) };
        last = Sample { off, log, seen, restless: restless.now(looked.restless) };
        match judge(before, &last) {
            Verdict::Healthy => {
                // A unit that was restarted may fail once more, between two observations.
                let calm = last.seen.restarting.is_subset(&before.restarting);
                let long = healthy.get_or_insert_with(Instant::now).elapsed() > QUIET;
                return Ok((calm || long).then_some(None));
            }
            Verdict::Unhealthy(why) => return Ok(Some(Some(why))),
            Verdict::Early(why) => (lacking, reason) = (None, why),
            Verdict::Lacking(why) => {
                if lacking.get_or_insert_with(Instant::now).elapsed() > limit / 4 {
                    return Ok(Some(Some(why)));
                }
                reason = why;
            }
        }
        healthy = None;
        Ok(None)
    })?;
    let mut fault = match ended {
        Some(fault) => fault,
        // It was healthy at the time limit, only not for long enough.
        None if healthy.is_some() => None,
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

/// Returns the question to a guest that answers and is unhealthy.
fn question(before: &Observation, now: &Sample) -> words::Question {
    let mut units = new_failures(before, &now.seen);
    units.extend(new_restless(before, now));
    if before.ssh && !now.seen.ssh {
        units.extend(NETWORK.map(str::to_owned));
    }
    words::Question { jobs: units.is_empty() || now.seen.system == Some(System::Starting), units }
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
            question(&seen(true, &["old.service"]), &Sample { seen: now, ..Sample::default() })
        };
        assert_eq!(asked(seen(true, &["new.service", "old.service"])).units, ["new.service"]);
        assert_eq!(asked(seen(false, &[])).units, NETWORK);
        let starting = Observation { system: Some(System::Starting), ..seen(true, &["new.service"]) };
        assert_eq!(asked(starting), words::Question { units: vec!["new.service".into()], jobs: true });
        assert_eq!(asked(seen(true, &[])), words::Question { units: vec![], jobs: true });
    }
}
