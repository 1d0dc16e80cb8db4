//! A plan is carried out: step by step, written down in the journal.

use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use crate::error::Result;
use crate::interrupt;
use crate::journal::{Entry, Intent, Journal, Recorded};
use crate::model::MachineName;
use crate::work::{Plan, Work};

impl Work<'_> {
    /// Takes the steps one after another.
    ///
    /// A step that fails ends the work, and the volumes that the work made in vain are deleted.
    pub fn carry_out<P: Plan>(&self, steps: &[P], take: impl FnMut(&P) -> Result<()>) -> Result<()> {
        let mut entry = self.entry(steps);
        entry.is_birth = self.host.find(&self.name)?.is_none();
        // The next command cleans up what this one cannot; people need to hear of the first fault.
        self.take_each(&[&self.name], &entry, steps, take).inspect_err(|_| drop(self.clean_up()))
    }

    /// Takes the steps of a work that cannot be undone once begun: after a fault, the same command finishes it.
    pub fn carry_onward<P: Plan>(&self, steps: &[P], take: impl FnMut(&P) -> Result<()>) -> Result<()> {
        self.take_each(&[&self.name], &self.onward(steps), steps, take)
    }

    /// Does the same for a work on two machines: the journals of both say how far it is.
    pub fn carry_both_onward<P: Plan>(
        &self,
        other: &Work,
        steps: &[P],
        take: impl FnMut(&P) -> Result<()>,
    ) -> Result<()> {
        self.take_each(&[&self.name, &other.name], &self.onward(steps), steps, take)
    }

    fn onward<P: Plan>(&self, steps: &[P]) -> Entry {
        let mut entry = self.entry(steps);
        entry.only_onward = true;
        entry
    }

    fn entry<P: Plan>(&self, steps: &[P]) -> Entry {
        let recorded = steps.iter().map(|step| Recorded { title: step.title(), intent: step.intent() });
        let volumes = steps.iter().flat_map(Plan::volumes).collect();
        let mut entry = Entry::new(self.holder.clone(), recorded.collect(), volumes);
        // A machine that is being made may have no files yet that say where it is.
        entry.pool = Some(self.setup.pool.clone());
        entry.connection = Some(self.setup.connect.clone());
        entry
    }

    fn take_each<P: Plan>(
        &self,
        names: &[&MachineName],
        entry: &Entry,
        steps: &[P],
        mut take: impl FnMut(&P) -> Result<()>,
    ) -> Result<()> {
        let folder = self.setup.workspace.work_dir();
        let begin = |name: &&MachineName| Journal::begin(&folder, name, entry.clone());
        let mut journals = names.iter().map(begin).collect::<Result<Vec<_>>>()?;
        self.maybe_die(0);
        let mut is_committed = false;
        for (done, step) in (1..).zip(steps) {
            if is_committed {
                // What is left is short, and an interruption would have the same command start over.
                interrupt::deferred(|| take(step))?;
            } else {
                interrupt::check()?;
                take(step)?;
            }
            is_committed |= matches!(step.intent(), Some(Intent::Layer(_)));
            journals.iter_mut().try_for_each(|journal| journal.step_done().map(drop))?;
            self.maybe_die(done);
        }
        journals.into_iter().try_for_each(Journal::finish)
    }

    /// Kills, interrupts or stops this process at the step boundary that a test chose.
    fn maybe_die(&self, done: usize) {
        if let Some((after, signal)) = self.setup.die_after
            && after == done
        {
            let _ = kill_process(getpid(), signal);
            if signal != Signal::STOP {
                // Another thread may take the signal.
                let _ = interrupt::poll(Duration::from_secs(5), Duration::from_millis(5), || Ok(None::<()>));
            }
        }
    }
}
