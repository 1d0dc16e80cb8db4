//! Several machines, one after another.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::error::{Failure, Kind, Report, Result, Said};
use crate::model::MachineName;
use crate::ops::{self, Call, Setup};

use super::input::machine_name;
use super::shown::Shown;

/// Does the same with each of the machines. If one fails, the others still have their turn.
///
/// # Errors
/// A name is not valid or that of no machine, and then nothing is done with any; one or more of them failed; an
/// interruption, after which no other machine is begun.
pub fn each<T: Serialize>(
    call: &Call,
    names: &[String],
    work: impl FnMut(&Setup, &MachineName) -> Result<T>,
) -> Result<Shown> {
    let names: BTreeSet<MachineName> = names.iter().map(|name| machine_name(name)).collect::<Result<_>>()?;
    in_order(call, &names.into_iter().collect::<Vec<_>>(), work)
}

/// Does the same with machines in this order.
pub fn in_order<T: Serialize>(
    call: &Call,
    names: &[MachineName],
    mut work: impl FnMut(&Setup, &MachineName) -> Result<T>,
) -> Result<Shown> {
    // With only one machine, the work's own error says more.
    if names.len() > 1 {
        ops::require_all(call, &names.iter().cloned().collect())?;
    }
    let mut results = Vec::new();
    let mut failed = Vec::new();
    for name in names {
        match call.machine(name).and_then(|setup| work(&setup, name)) {
            Ok(result) => results.push(result),
            Err(error) if names.len() == 1 || is(&error, Kind::Interrupted) => return Err(error),
            Err(error) => failed.push((name, error)),
        }
    }
    if failed.is_empty() {
        return Ok(Shown::said(&results));
    }
    Err(some_failed(&failed, names.len()).into())
}

fn is(error: &anyhow::Error, kind: Kind) -> bool {
    Report::of(error).exit_code == kind.exit_code()
}

fn some_failed(failed: &[(&MachineName, anyhow::Error)], of: usize) -> Failure {
    let causes: Vec<String> = failed.iter().map(|(name, error)| format!("{name}: {error:#}")).collect();
    let counted = match failed.len() {
        all if all == of => format!("all {of} machines failed"),
        some => format!("{some} of {of} machines failed; the others were done"),
    };
    // A rollback goes first: a program that upgrades many machines has to know about it.
    let failure = if failed.iter().any(|(_, error)| is(error, Kind::RolledBack)) {
        Failure::rolled_back(counted)
    } else {
        Failure::user(counted)
    };
    let mut words = Vec::new();
    for (name, error) in failed {
        let named = |said: Said| Said { source: format!("{name}: {}", said.source), ..said };
        words.extend(Report::of(error).said.into_iter().map(named));
    }
    failure.said(words).because(anyhow::Error::msg(causes.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_machines_one_that_was_taken_back_gives_the_code() {
        let [web, db]: [MachineName; 2] = ["web".parse().unwrap(), "db".parse().unwrap()];
        let off = || Failure::user("it is off").into();
        let words = |source: &str| vec![Said { source: source.into(), lines: vec!["boom".into()] }];
        let back = || Failure::rolled_back("not healthy").said(words("a.service")).into();
        let report =
            |failed: &[(&MachineName, anyhow::Error)], of| Report::of(&some_failed(failed, of).into());
        let both = report(&[(&web, off()), (&db, back())], 2);
        assert_eq!((both.exit_code, both.error.as_str()), (3, "all 2 machines failed"));
        assert_eq!(both.causes, ["web: it is off\ndb: not healthy"]);
        assert_eq!(both.said, words("db: a.service"));
        let one = report(&[(&web, off())], 2);
        assert_eq!((one.exit_code, one.error.as_str()), (1, "1 of 2 machines failed; the others were done"));
    }
}
