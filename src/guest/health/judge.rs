//! Decides whether a guest is as healthy as it was before.

use std::collections::BTreeSet;

use crate::guest::serial::BootLog;
use crate::model::{Observation, System};

/// How many boots count as a boot loop.
const LOOP: usize = 4;

/// One sample of a guest that boots.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    pub off: bool,
    pub log: BootLog,
    pub seen: Observation,
    /// The units that failed and wait for a restart, or did a moment ago.
    pub restless: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Healthy,
    /// It is too early to tell, for this reason.
    Early(String),
    /// Everything was started and this is still missing; it may come a little later.
    Lacking(String),
    /// It will not become healthy, for this reason.
    Unhealthy(String),
}

/// Judges a guest by what it was `before` and is `now`.
pub fn judge(before: &Observation, now: &Sample) -> Verdict {
    let seen = &now.seen;
    if let Some(panic) = &now.log.panic {
        return Verdict::Unhealthy(format!("its kernel panicked: {panic}"));
    }
    if now.off {
        return Verdict::Unhealthy("it switched itself off while it was starting".into());
    }
    if !seen.answers() {
        return match &now.log {
            log if log.shell => Verdict::Unhealthy("its firmware found nothing to boot from".into()),
            log if log.boots >= LOOP => Verdict::Unhealthy(format!("it began to boot {} times", log.boots)),
            _ => Verdict::Early("neither its agent nor ssh answers".into()),
        };
    }
    let new = new_failures(before, seen);
    match seen.system {
        Some(System::Starting) => return Verdict::Early("it is still starting".into()),
        Some(System::Maintenance) => {
            return Verdict::Unhealthy("its start failed, and it waits for input at its console".into());
        }
        Some(System::Other) => return Verdict::Early("systemd does not report a usable state".into()),
        // If its state could not be asked for before either, an answer is enough.
        None if before.system.is_some() => {
            return Verdict::Lacking("it does not tell the state of its units, and did before".into());
        }
        Some(System::Degraded) if !new.is_empty() => {
            return Verdict::Unhealthy(format!("these units fail in the new system: {}", new.join(", ")));
        }
        Some(System::Running | System::Degraded) | None => {}
    }
    // An agent answers even without a network.
    if before.ssh && !seen.ssh {
        return Verdict::Lacking("ssh does not answer, and did before".into());
    }
    let restless = new_restless(before, now);
    if !restless.is_empty() {
        return Verdict::Lacking(format!("these units fail again and again: {}", restless.join(", ")));
    }
    Verdict::Healthy
}

/// Returns the units that fail and did not before, sorted by name.
pub(super) fn new_failures(before: &Observation, seen: &Observation) -> Vec<String> {
    seen.failed.difference(&before.failed).cloned().collect()
}

/// Returns the units that fail again and again, without those that did so or had failed before, sorted by name.
pub(super) fn new_restless(before: &Observation, now: &Sample) -> Vec<String> {
    let accepted = |unit: &&String| before.restarting.contains(*unit) || before.failed.contains(*unit);
    now.restless.iter().filter(|unit| !accepted(unit)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(agent: bool, ssh: bool, system: Option<System>, failed: &[&str]) -> Observation {
        let failed = failed.iter().map(ToString::to_string).collect();
        Observation { agent, ssh, system, failed, restarting: BTreeSet::new() }
    }

    #[test]
    fn a_unit_that_fails_again_and_again_is_given_a_little_time() {
        let restless =
            |unit: &str| Sample { seen: well(), restless: [unit.to_owned()].into(), ..Sample::default() };
        let lacking = judge(&well(), &restless("a.service"));
        assert!(matches!(&lacking, Verdict::Lacking(why) if why.contains("a.service")), "{lacking:?}");
        let flapped = Observation { restarting: ["a.service".to_owned()].into(), ..well() };
        assert_eq!(judge(&flapped, &restless("a.service")), Verdict::Healthy);
        let failed = seen(true, true, Some(System::Degraded), &["a.service"]);
        assert_eq!(judge(&failed, &restless("a.service")), Verdict::Healthy);
    }

    fn well() -> Observation {
        seen(true, true, Some(System::Running), &[])
    }

    fn verdict(before: &Observation, seen: Observation) -> Verdict {
        judge(before, &Sample { seen, ..Sample::default() })
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
            // ssh alone, and no login, as before.
            (seen(false, true, None, &[]), seen(false, true, None, &[])),
            // Nothing answered before: whatever answers now is better.
            (Observation::default(), seen(true, false, Some(System::Running), &[])),
            // A missing agent does not matter as long as ssh tells the state.
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
        let moment = |change: fn(&mut Sample)| {
            let mut moment = Sample::default();
            change(&mut moment);
            judge(&well(), &moment)
        };
        assert!(unhealthy(&moment(|m| m.off = true), "switched itself off"));
        assert!(unhealthy(&moment(|m| m.log.panic = Some("Kernel panic".into())), "Kernel panic"));
        assert!(unhealthy(&moment(|m| m.log.boots = LOOP), "4 times"));
        assert!(unhealthy(&moment(|m| m.log.shell = true), "nothing to boot from"));
        assert!(matches!(moment(|m| m.log.boots = 1), Verdict::Early(_)));
        assert!(unhealthy(&verdict(&well(), seen(true, true, Some(System::Maintenance), &[])), "console"));
    }
}
