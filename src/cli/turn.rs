//! The turns of several things that are worked on, some at the same time: what became of each, and of all.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::time::Instant;

use console::style;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Failure, Kind, Report, Result};
use crate::interrupt;
use crate::model::MachineName;

use super::jobs::at_once;
use super::shown::{self, Shown};
use super::terminal::{Terminal, error_text};

/// What is worked on, as it is shown.
pub trait Subject: Display + Clone + Send {
    /// The key in JSON that names one.
    const KEY: &'static str;
    const MANY: &'static str;
}

impl Subject for MachineName {
    const KEY: &'static str = "machine";
    const MANY: &'static str = "machines";
}

#[derive(Debug)]
pub struct Turn<T, S = MachineName> {
    pub subject: S,
    pub outcome: Outcome<T>,
    seconds: f64,
}

/// What became of a subject.
#[derive(Debug)]
pub enum Outcome<T> {
    Done(T),
    Failed(anyhow::Error),
    /// A pattern stands for this machine, and it has no domain yet.
    NoDomain,
    /// A request to stop, or the failure of another one, came before its turn.
    NotBegun,
}

/// Gives each its turn, on a terminal of its own; none begins after a request to stop, or once `go_on` is false. `attempt` returns
/// `None` for a machine without a domain.
pub fn turns<T: Send, S: Subject>(
    jobs: NonZeroUsize,
    subjects: Vec<S>,
    terminal: &Terminal,
    go_on: impl Fn() -> bool + Sync,
    attempt: impl Fn(&S, &Terminal) -> Result<Option<T>> + Sync,
) -> Vec<Turn<T, S>> {
    terminal.rest();
    let waiting: Vec<_> = subjects.iter().map(|subject| (subject.clone(), terminal.of(subject))).collect();
    let done = at_once(
        jobs,
        waiting,
        || !interrupt::is_requested() && go_on(),
        |(subject, terminal)| {
            let turn = Turn::take(subject, &terminal, &attempt);
            if let Outcome::Failed(error) = &turn.outcome {
                terminal.line(&error_text(&Report::of(error)));
            }
            turn
        },
    );
    let turn = |(subject, done): (S, Option<_>)| done.unwrap_or_else(|| Turn::not_begun(subject));
    subjects.into_iter().zip(done).map(turn).collect()
}

impl<T, S> Turn<T, S> {
    /// Gives one its turn, on that terminal.
    pub fn take(
        subject: S,
        terminal: &Terminal,
        attempt: impl FnOnce(&S, &Terminal) -> Result<Option<T>>,
    ) -> Self {
        let began = Instant::now();
        let outcome = match attempt(&subject, terminal) {
            Ok(Some(result)) => Outcome::Done(result),
            Ok(None) => Outcome::NoDomain,
            Err(error) => Outcome::Failed(error),
        };
        terminal.rest();
        Turn { subject, outcome, seconds: began.elapsed().as_secs_f64() }
    }

    /// Returns the turn of one that was worked on together with others.
    pub fn of(subject: S, result: Result<T>) -> Self {
        Turn { subject, outcome: result.map_or_else(Outcome::Failed, Outcome::Done), seconds: 0.0 }
    }

    pub fn not_begun(subject: S) -> Self {
        Turn { subject, outcome: Outcome::NotBegun, seconds: 0.0 }
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

impl<T: Serialize, S: Subject> Turn<T, S> {
    /// Returns its object in the list for programs.
    fn json(&self) -> Result<Value> {
        let mut value = match &self.outcome {
            Outcome::Done(result) => shown::json(result)?,
            Outcome::Failed(error) => json!(Report::of(error)),
            Outcome::NoDomain => json!({ "skipped": "no-domain" }),
            Outcome::NotBegun => json!({ "skipped": "not-begun" }),
        };
        if let Some(object) = value.as_object_mut() {
            object.entry(S::KEY).or_insert_with(|| json!(self.subject.to_string()));
        }
        Ok(value)
    }
}

/// Returns the result of work on these, and prints how many of several failed.
///
/// # Errors
/// That of the only one.
pub fn several<T: Serialize, S: Subject>(
    turns: Vec<Turn<T, S>>,
    text: String,
    terminal: &Terminal,
) -> Result<Shown> {
    let turns = match <[Turn<T, S>; 1]>::try_from(turns) {
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

/// Returns the failure of the whole command, if one failed or was not begun.
fn some_failed<T, S: Subject>(turns: &[Turn<T, S>], interrupted: bool) -> Option<Failure> {
    let errors = || {
        turns.iter().filter_map(|turn| match &turn.outcome {
            Outcome::Failed(error) => Some(error),
            _ => None,
        })
    };
    let not_begun = turns.iter().filter(|turn| matches!(turn.outcome, Outcome::NotBegun)).count();
    let (failed, of, many) = (errors().count(), turns.len(), S::MANY);
    let message = match (failed, not_begun) {
        (0, 0) => return None,
        (0, _) => format!("{not_begun} of {of} {many} not begun; the others were done"),
        (_, 0) if failed == of => format!("all {of} {many} failed"),
        (_, 0) => format!("{failed} of {of} {many} failed; the others were done"),
        _ => format!("{failed} of {of} {many} failed; {not_begun} not begun"),
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
        named.map(|(outcome, name)| Turn { subject: name.parse().unwrap(), outcome, seconds: 1.25 }).collect()
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
