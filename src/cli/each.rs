//! The same work on each of several machines, some of them at the same time.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::error::Result;
use crate::interrupt;
use crate::model::MachineName;
use crate::ops::{self, Call, Needs, Setup, Watch};

use super::jobs::{Cost, cores};
use super::rollout::{Rollout, Verdict};
use super::selection::Selection;
use super::shown::Shown;
use super::table::table;
use super::terminal::Terminal;
use super::turn::{Outcome, Turn, several, turns};

/// Machines that were selected, checked, and are about to be worked on.
pub struct Each<'a> {
    call: &'a Call,
    selection: &'a Selection,
    needs: Needs,
    jobs: NonZeroUsize,
    /// Those whose turn is at the same time; the next have theirs after them.
    order: Vec<Vec<MachineName>>,
    terminal: &'a Terminal,
}

/// Prepares work on the selected machines.
///
/// # Errors
/// One that was named does not exist, or lacks what the work needs: nothing is done with any then.
pub fn each<'a>(
    call: &'a Call,
    selection: &'a Selection,
    needs: Needs,
    cost: Cost,
    terminal: &'a Terminal,
) -> Result<Each<'a>> {
    // With only one machine, the work's own error says more.
    if selection.len() > 1 {
        ops::require_all(call, selection.named(), needs)?;
    }
    let jobs = selection.jobs().unwrap_or_else(|| cost.jobs(cores()));
    let order = vec![selection.names().into_iter().collect()];
    Ok(Each { call, selection, needs, jobs, order, terminal })
}

impl<'a> Each<'a> {
    pub fn jobs(&self) -> NonZeroUsize {
        self.jobs
    }

    /// Has the machines take turns in this order.
    #[must_use]
    pub fn ordered(self, order: Vec<Vec<MachineName>>) -> Self {
        Each { order, ..self }
    }

    /// Does the work with all of the machines. If one fails, the others still have their turn.
    pub fn run<T: Send>(
        &self,
        work: impl Fn(&Setup, &MachineName, &Terminal) -> Result<T> + Sync,
    ) -> Vec<Turn<T>> {
        self.order.iter().flat_map(|names| self.some(names.clone(), || true, &work)).collect()
    }

    /// Does the work with these of the machines. None is begun after a request to stop, or once `go_on` is false.
    pub fn some<T: Send>(
        &self,
        names: Vec<MachineName>,
        go_on: impl Fn() -> bool + Sync,
        work: impl Fn(&Setup, &MachineName, &Terminal) -> Result<T> + Sync,
    ) -> Vec<Turn<T>> {
        let Each { call, selection, needs, .. } = self;
        let attempt = |name: &MachineName, terminal: &Terminal| -> Result<Option<T>> {
            let setup = call.machine(name)?;
            // Whoever writes `--all` does not expect each declared machine to be made already.
            if *needs == Needs::Domain && !selection.named().contains(name) && !ops::is_made(&setup, name)? {
                return Ok(None);
            }
            work(&setup, name, terminal).map(Some)
        };
        if selection.len() == 1 {
            return names.into_iter().map(|name| Turn::take(name, self.terminal, attempt)).collect();
        }
        turns(self.jobs, names, self.terminal, go_on, attempt)
    }

    /// Does the work with the machines of a rollout, in its order, and returns the turns by name. `verdict` judges a machine with which
    /// it was done.
    pub fn roll<T: Send>(
        &self,
        mut rollout: Rollout,
        work: impl Fn(&Setup, &MachineName, &Terminal) -> Result<T> + Sync,
        verdict: impl Fn(&T) -> Verdict,
    ) -> Vec<Turn<T>> {
        let (stopped, keeps_going) = (AtomicBool::new(false), rollout.keeps_going());
        let work = |setup: &Setup, name: &MachineName, terminal: &Terminal| {
            // The machines of its batch that were not begun are kept from it at once.
            work(setup, name, terminal).inspect_err(|_| stopped.store(!keeps_going, Ordering::Relaxed))
        };
        let judge = |turn: &Turn<T>| match &turn.outcome {
            Outcome::Done(done) => verdict(done),
            Outcome::NoDomain => Verdict::Untried,
            Outcome::Failed(_) | Outcome::NotBegun => Verdict::Bad,
        };
        let mut turns = Vec::new();
        while let Some(names) = rollout.next() {
            let batch = self.some(names, || !stopped.load(Ordering::Relaxed), work);
            let left = rollout.judge(batch.iter().map(judge));
            if !left.is_empty() && !interrupt::is_requested() {
                self.terminal
                    .note("the upgrades end here; `--keep-going` upgrades the other machines all the same");
            }
            turns.extend(batch);
            turns.extend(left.into_iter().map(Turn::not_begun));
        }
        turns.sort_by(|one, other| one.subject.cmp(&other.subject));
        turns
    }

    /// Does the work with all of the machines, and returns a list of results for programs and a table for people. `word` says
    /// a result in a few words. The steps on standard error said everything about a single machine.
    pub fn shown<T: Serialize + Send>(
        &self,
        work: impl Fn(&Setup, &MachineName, &Terminal) -> Result<T> + Sync,
        word: impl Fn(&T) -> String,
    ) -> Result<Shown> {
        self.shown_with(work, word, |_| String::new())
    }

    /// Does the same, with a text for the result of a single machine.
    pub fn shown_with<T: Serialize + Send>(
        &self,
        work: impl Fn(&Setup, &MachineName, &Terminal) -> Result<T> + Sync,
        word: impl Fn(&T) -> String,
        text: impl Fn(&T) -> String,
    ) -> Result<Shown> {
        let turns = self.run(work);
        let text = match turns.as_slice() {
            [Turn { outcome: Outcome::Done(result), .. }] => text(result),
            turns => {
                let row = |turn: &Turn<T>| vec![turn.subject.to_string(), turn.seconds(), turn.word(&word)];
                table(&["MACHINE", "SECONDS", "RESULT"], turns.iter().map(row))
            }
        };
        several(turns, text, self.terminal)
    }
}
