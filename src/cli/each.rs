//! The same work on each of several machines, some of them at the same time.

use std::num::NonZeroUsize;
use std::time::Instant;

use console::style;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Failure, Kind, Report, Result};
use crate::interrupt;
use crate::model::MachineName;
use crate::ops::{self, Call, Needs, Setup};

use super::jobs::{Cost, at_once, cores};
use super::selection::Selection;
use super::shown::{self, Shown};
use super::table::table;
use super::terminal::{Terminal, error_text};

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

/// The turn of one machine.
#[derive(Debug)]
pub struct Turn<T> {
    pub machine: MachineName,
    pub outcome: Outcome<T>,
    seconds: f64,
}

/// What became of a machine.
#[derive(Debug)]
pub enum Outcome<T> {
    Done(T),
    Failed(anyhow::Error),
    /// A pattern stands for it, and it has no domain yet.
    NoDomain,
    /// A request to stop, or the failure of another machine, came before its turn.
    NotBegun,
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
        let turn = |name: MachineName, terminal: &Terminal| {
            let began = Instant::now();
            let outcome = match attempt(&name, terminal) {
                Ok(Some(result)) => Outcome::Done(result),
                Ok(None) => Outcome::NoDomain,
                Err(error) => Outcome::Failed(error),
            };
            terminal.rest();
            Turn { machine: name, outcome, seconds: began.elapsed().as_secs_f64() }
        };
        if selection.len() == 1 {
            return names.into_iter().map(|name| turn(name, self.terminal)).collect();
        }
        let machines: Vec<_> = names.iter().map(|name| (name.clone(), self.terminal.of(name))).collect();
        self.terminal.rest();
        let turns = at_once(
            self.jobs,
            machines,
            || !interrupt::is_requested() && go_on(),
            |(name, terminal)| {
                let turn = turn(name, &terminal);
                if let Outcome::Failed(error) = &turn.outcome {
                    terminal.line(&error_text(&Report::of(error)));
                }
                turn
            },
        );
        names
            .into_iter()
            .zip(turns)
            .map(|(name, turn)| turn.unwrap_or_else(|| Turn::not_begun(name)))
            .collect()
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
                let row = |turn: &Turn<T>| vec![turn.machine.to_string(), turn.seconds(), turn.word(&word)];
                table(&["MACHINE", "SECONDS", "RESULT"], turns.iter().map(row))
            }
        };
        several(turns, text, self.terminal)
    }
}

impl<T> Turn<T> {
    /// Returns the turn of a machine that was worked on together with others.
    pub fn of(machine: MachineName, result: Result<T>) -> Self {
        Turn { machine, outcome: result.map_or_else(Outcome::Failed, Outcome::Done), seconds: 0.0 }
    }

    pub fn not_begun(machine: MachineName) -> Self {
        Turn { machine, outcome: Outcome::NotBegun, seconds: 0.0 }
    }

    /// Returns how long it took, as a cell of a table.
    pub fn seconds(&self) -> String {
        match self.outcome {
            Outcome::NotBegun => "-".into(),
            _ => format!("{:.1}", self.seconds),
        }
    }

    /// Returns the outcome as a cell of a table.
    pub fn word(&self, word: impl Fn(&T) -> String) -> String {
        match &self.outcome {
            Outcome::Done(result) => word(result),
            Outcome::Failed(error) => {
                let failed = if is(error, Kind::RolledBack) { "rolled back" } else { "failed" };
                let message = error.to_string();
                format!("{}: {}", style(failed).red(), message.lines().next().unwrap_or_default())
            }
            Outcome::NoDomain => style("no domain yet").dim().to_string(),
            Outcome::NotBegun => style("not begun").yellow().to_string(),
        }
    }
}

impl<T: Serialize> Turn<T> {
    /// Returns the machine's object in the list for programs.
    pub fn json(&self) -> Result<Value> {
        let mut value = match &self.outcome {
            Outcome::Done(result) => shown::json(result)?,
            Outcome::Failed(error) => json!(Report::of(error)),
            Outcome::NoDomain => json!({ "skipped": "no-domain" }),
            Outcome::NotBegun => json!({ "skipped": "not-begun" }),
        };
        if let Some(object) = value.as_object_mut() {
            object.entry("machine").or_insert_with(|| json!(self.machine));
        }
        Ok(value)
    }
}

/// Returns the result of work on machines, and prints how many of several failed.
///
/// # Errors
/// That of the only machine.
pub fn several<T: Serialize>(turns: Vec<Turn<T>>, text: String, terminal: &Terminal) -> Result<Shown> {
    let turns = match <[Turn<T>; 1]>::try_from(turns) {
        Ok([Turn { outcome: Outcome::Failed(error), .. }]) => return Err(error),
        Ok(only) => Vec::from(only),
        Err(several) => several,
    };
    let list = turns.iter().map(Turn::json).collect::<Result<Vec<_>>>()?;
    let mut shown = Shown::new(&list, text);
    if let Some(failure) = some_failed(&turns, interrupt::is_requested()) {
        let report = Report::of(&failure.into());
        terminal.line(&error_text(&report));
        shown.exit_code = report.exit_code;
    }
    Ok(shown)
}

fn is(error: &anyhow::Error, kind: Kind) -> bool {
    Report::of(error).exit_code == kind.exit_code()
}

/// Returns the failure of the whole command, if a machine failed or was not begun.
fn some_failed<T>(turns: &[Turn<T>], interrupted: bool) -> Option<Failure> {
    let errors = || {
        turns.iter().filter_map(|turn| match &turn.outcome {
            Outcome::Failed(error) => Some(error),
            _ => None,
        })
    };
    let not_begun = turns.iter().filter(|turn| matches!(turn.outcome, Outcome::NotBegun)).count();
    let (failed, of) = (errors().count(), turns.len());
    let message = match (failed, not_begun) {
        (0, 0) => return None,
        (0, _) => format!("{not_begun} of {of} machines not begun; the others were done"),
        (_, 0) if failed == of => format!("all {of} machines failed"),
        (_, 0) => format!("{failed} of {of} machines failed; the others were done"),
        _ => format!("{failed} of {of} machines failed; {not_begun} not begun"),
    };
    Some(if interrupted && not_begun > 0 || errors().any(|error| is(error, Kind::Interrupted)) {
        Failure::interrupted().because(Failure::user(message))
    } else if errors().any(|error| is(error, Kind::RolledBack)) {
        // A program that upgrades many machines has to know about it.
        Failure::rolled_back(message)
    } else {
        Failure::user(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(outcomes: Vec<Outcome<u32>>) -> Vec<Turn<u32>> {
        let named = outcomes.into_iter().zip(["db", "web", "www"]);
        named.map(|(outcome, name)| Turn { machine: name.parse().unwrap(), outcome, seconds: 1.25 }).collect()
    }

    fn off() -> Outcome<u32> {
        Outcome::Failed(Failure::user("it is off").hint("start it").into())
    }

    fn back() -> Outcome<u32> {
        Outcome::Failed(Failure::rolled_back("not healthy").into())
    }

    #[test]
    fn the_worst_of_several_machines_gives_the_code() {
        let said = |outcomes, interrupted| {
            let report = Report::of(&some_failed(&turns(outcomes), interrupted)?.into());
            Some((report.exit_code, format!("{}{}", report.error, report.causes.concat())))
        };
        assert_eq!(said(vec![Outcome::Done(1), Outcome::NoDomain], false), None);
        assert_eq!(said(vec![Outcome::Done(1), Outcome::Done(2)], true), None, "it came too late to matter");
        let some = |code, text: &str| Some((code, text.to_owned()));
        assert_eq!(said(vec![off(), back()], false), some(3, "all 2 machines failed"));
        let one = "1 of 2 machines failed; the others were done";
        assert_eq!(said(vec![off(), Outcome::Done(1)], false), some(1, one));
        let rest = "1 of 3 machines failed; 1 not begun";
        assert_eq!(said(vec![Outcome::Done(1), back(), Outcome::NotBegun], false), some(3, rest));
        let stopped = Outcome::Failed(Failure::interrupted().into());
        assert_eq!(said(vec![back(), stopped], false), some(130, "interruptedall 2 machines failed"));
        let left = "interrupted1 of 2 machines not begun; the others were done";
        assert_eq!(said(vec![Outcome::Done(1), Outcome::NotBegun], true), some(130, left));
    }

    #[test]
    fn each_machine_is_an_object_and_a_row() {
        console::set_colors_enabled(false);
        let turns = turns(vec![off(), Outcome::NoDomain, Outcome::NotBegun]);
        let objects: Vec<Value> = turns.iter().map(|turn| turn.json().unwrap()).collect();
        assert_eq!(
            objects,
            [
                json!({ "machine": "db", "error": "it is off", "causes": [], "hints": ["start it"], "exit_code": 1 }),
                json!({ "machine": "web", "skipped": "no-domain" }),
                json!({ "machine": "www", "skipped": "not-begun" }),
            ]
        );
        let cells: Vec<_> = turns.iter().map(|turn| (turn.seconds(), turn.word(u32::to_string))).collect();
        let cell = |seconds: &str, word: &str| (seconds.to_owned(), word.to_owned());
        assert_eq!(
            cells,
            [cell("1.2", "failed: it is off"), cell("1.2", "no domain yet"), cell("-", "not begun")]
        );
    }
}
