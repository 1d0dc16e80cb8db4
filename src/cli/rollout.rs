//! In which order several machines get a new system, and when that ends: the first by itself, then batches.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroUsize;

use crate::error::{Failure, Result};
use crate::model::MachineName;
use crate::ops::{self, Upgraded};

use super::input::machine_name;

// No doc comment, as for every flattened group.
#[derive(Debug, clap::Args)]
pub struct Rolling {
    /// Of several machines, upgrade this one first [default: the first by name]
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
    /// Upgrade the others N at a time [default: as many as `--jobs`]
    #[arg(long, value_name = "N")]
    batch: Option<NonZeroUsize>,
    /// Upgrade the others although one was rolled back or failed
    #[arg(long)]
    keep_going: bool,
}

impl Rolling {
    /// Returns the rollout of those of the `selected` machines that get a new system.
    ///
    /// # Errors
    /// The canary is none of the selected machines. One that gets no new system proves nothing, and is passed over.
    pub fn rollout(
        &self,
        selected: &BTreeSet<MachineName>,
        upgraded: BTreeSet<MachineName>,
        jobs: NonZeroUsize,
    ) -> Result<Rollout> {
        let canary = self.canary.as_deref().map(machine_name).transpose()?;
        let canary = canary.filter(|name| upgraded.contains(name) || !selected.contains(name));
        let rollout = Rollout::new(upgraded, canary.as_ref(), self.batch.unwrap_or(jobs))?;
        Ok(rollout.keep_going(self.keep_going))
    }
}

/// What the upgrade of one machine says about the upgrades of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It came up with a new system.
    Proven,
    /// Nothing was put to the test: it was up to date, or is off.
    Untried,
    /// It went back, or its upgrade failed.
    Bad,
}

impl Verdict {
    /// Only a machine that came up with its new system proves anything.
    pub fn of(done: &Upgraded) -> Self {
        match done.outcome {
            ops::Outcome::Upgraded => Verdict::Proven,
            ops::Outcome::UpToDate | ops::Outcome::Prepared => Verdict::Untried,
        }
    }
}

/// Machines that wait for a new system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    waiting: VecDeque<MachineName>,
    batch: NonZeroUsize,
    /// Whether a machine has come up with a new system, so that the others follow in batches.
    proven: bool,
    /// Whether a bad upgrade stops nothing.
    keep_going: bool,
}

impl Rollout {
    /// # Errors
    /// The canary, which is to be the first, is none of the machines.
    pub fn new(
        machines: BTreeSet<MachineName>,
        canary: Option<&MachineName>,
        batch: NonZeroUsize,
    ) -> Result<Self, Failure> {
        let mut waiting: VecDeque<MachineName> = machines.into_iter().collect();
        if let Some(canary) = canary {
            let place = waiting.iter().position(|name| name == canary).ok_or_else(|| {
                Failure::usage(format!("`{canary}` is to be the first, and is none of the machines"))
                    .hint("name it among the machines too, or name one of them with `--canary`")
            })?;
            waiting.swap(0, place);
            waiting.make_contiguous()[1..].sort();
        }
        Ok(Rollout { waiting, batch, proven: false, keep_going: false })
    }

    /// Returns the rollout without a first one: nothing is put to the test.
    #[must_use]
    pub fn proven(self, proven: bool) -> Self {
        Rollout { proven, ..self }
    }

    #[must_use]
    pub fn keep_going(self, keep_going: bool) -> Self {
        Rollout { keep_going, ..self }
    }

    pub fn keeps_going(&self) -> bool {
        self.keep_going
    }

    /// Returns the machines whose turn is next, at the same time; `None` where none is left.
    pub fn next(&mut self) -> Option<Vec<MachineName>> {
        let count = if self.proven { self.batch.get() } else { 1 };
        let next: Vec<MachineName> = self.waiting.drain(..count.min(self.waiting.len())).collect();
        (!next.is_empty()).then_some(next)
    }

    /// Takes the verdicts on the machines of the last turn, and returns those that are not to have a turn.
    pub fn judge(&mut self, verdicts: impl IntoIterator<Item = Verdict>) -> Vec<MachineName> {
        let verdicts: Vec<Verdict> = verdicts.into_iter().collect();
        self.proven |= self.keep_going || verdicts.contains(&Verdict::Proven);
        let ends = !self.keep_going && verdicts.contains(&Verdict::Bad);
        if ends { self.waiting.drain(..).collect() } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Bad, Proven, Untried};
    use super::*;

    fn names(names: &[&str]) -> Vec<MachineName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn rollout(canary: Option<&str>, batch: usize) -> Result<Rollout, Failure> {
        let machines = names(&["a", "b", "c", "d", "e", "f"]).into_iter().collect();
        let canary = canary.map(|name| name.parse().unwrap());
        Rollout::new(machines, canary.as_ref(), NonZeroUsize::new(batch).unwrap())
    }

    /// Returns who has a turn with whom, where each machine has this verdict, and who has none.
    fn turns(mut rollout: Rollout, verdict: impl Fn(&str) -> Verdict) -> (Vec<String>, String) {
        let joined = |names: &[MachineName]| names.iter().map(MachineName::as_str).collect::<String>();
        let (mut turns, mut left) = (Vec::new(), Vec::new());
        while let Some(turn) = rollout.next() {
            turns.push(joined(&turn));
            left.extend(rollout.judge(turn.iter().map(|name| verdict(name.as_str()))));
        }
        (turns, joined(&left))
    }

    fn owned(turns: &[&str], left: &str) -> (Vec<String>, String) {
        (turns.iter().map(ToString::to_string).collect(), left.to_owned())
    }

    #[test]
    fn the_first_goes_alone_and_the_others_in_batches() {
        assert_eq!(turns(rollout(None, 2).unwrap(), |_| Proven), owned(&["a", "bc", "de", "f"], ""));
        assert_eq!(turns(rollout(None, 9).unwrap(), |_| Proven), owned(&["a", "bcdef"], ""));
        assert_eq!(turns(rollout(Some("d"), 3).unwrap(), |_| Proven), owned(&["d", "abc", "ef"], ""));
        assert!(rollout(Some("x"), 1).is_err());
    }

    #[test]
    fn what_was_not_put_to_the_test_proves_nothing() {
        let off = |name: &str| if name < "c" { Untried } else { Proven };
        assert_eq!(turns(rollout(None, 9).unwrap(), off), owned(&["a", "b", "c", "def"], ""));
        // Where nothing is restarted, nobody waits for a proof.
        assert_eq!(turns(rollout(None, 3).unwrap().proven(true), |_| Untried), owned(&["abc", "def"], ""));
    }

    #[test]
    fn the_first_that_goes_back_keeps_the_others_as_they_are() {
        assert_eq!(turns(rollout(None, 2).unwrap(), |_| Bad), owned(&["a"], "bcdef"));
        let one_of_a_batch = |name: &str| if name == "c" { Bad } else { Proven };
        assert_eq!(turns(rollout(None, 2).unwrap(), one_of_a_batch), owned(&["a", "bc"], "def"));
        let going = rollout(None, 2).unwrap().keep_going(true);
        assert_eq!(turns(going, |_| Bad), owned(&["a", "bc", "de", "f"], ""));
    }
}
