//! An upgrade without a reason to restart the machine.

use crate::build::kept;
use crate::error::Result;
use crate::guest::health;
use crate::model::System;
use crate::model::record::{BuildHealth, Metadata};
use crate::ops::generations::upgrade::plan::Facts;
use crate::ops::generations::upgrade::run::{Outcome, Upgrade, Upgraded};
use crate::work::generations::record_health;

impl Upgrade<'_> {
    /// Writes down that these files, too, give the current system, so that the next run finds it by their digest.
    pub(super) fn take_note_of_inputs(&mut self) -> Result<()> {
        let mut domain = self.work.domain()?;
        let generations = domain.metadata().generations.also_from(self.target(), &self.built.inputs);
        let metadata = Metadata { generations, ..domain.metadata().clone() };
        domain.set_metadata(metadata)?;
        self.old = domain.metadata().clone();
        kept::keep(self.work.setup, &self.built)
    }

    pub(super) fn nothing_to_do(&self, facts: Facts, same: bool) -> Result<Upgraded> {
        let name = &self.work.name;
        let outcome = match facts.running {
            Some(running) if running == facts.target => Outcome::UpToDate,
            _ if facts.recorded == Some(BuildHealth::Healthy) => Outcome::UpToDate,
            _ => Outcome::Prepared,
        };
        self.work.watch.note(&match outcome {
            _ if same => {
                format!("nothing to do: the same system as generation {} of {name}", facts.target)
            }
            Outcome::Prepared => format!("{name} has generation {} at its next start already", facts.target),
            _ => format!("{name} is up to date with generation {}", facts.target),
        });
        let failing = self.look_at_untried(facts)?;
        Ok(Upgraded {
            machine: name.clone(),
            from: facts.current,
            to: facts.target,
            outcome,
            downtime: None,
            failing,
            not_carried_out: self.built.not_carried_out.clone(),
        })
    }

    /// Looks at a generation that was never judged, as after `--no-health`, and returns the units that fail.
    ///
    /// They are no reason to roll back: the machine may have run with them for weeks.
    fn look_at_untried(&self, facts: Facts) -> Result<Vec<String>> {
        let untried = facts.recorded == Some(BuildHealth::Untried);
        if !(facts.judge && untried && facts.running == Some(facts.target)) {
            return Ok(Vec::new());
        }
        let work = self.work;
        work.watch.step(&format!(
            "Looking at {}, for the first time since it has generation {}",
            work.name, facts.target
        ));
        let seen = health::glance(work, &work.domain()?, &self.machine);
        if seen.is_settled() {
            let health = if seen.system == Some(System::Running) {
                BuildHealth::Healthy
            } else {
                BuildHealth::Untried
            };
            record_health(work, facts.target, health, Some(&seen))?;
        }
        let failing = seen.failing();
        health::note_failing(work, &failing);
        Ok(failing)
    }
}
