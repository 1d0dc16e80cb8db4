//! Runs tests of a world one after another: by name, timed, with everything cleaned up at the end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use crate::process;
use crate::world::World;

/// How a test ended that did not fail.
pub enum Outcome {
    Passed,
    /// This host cannot show it, for that reason.
    Skipped(String),
}

pub type Test = fn(&mut World) -> Result<Outcome>;

/// Names tests by their paths.
macro_rules! tests {
    ($($module:ident::$name:ident),* $(,)?) => {
        &[$((stringify!($name), $module::$name as Test)),*]
    };
}
pub(crate) use tests;

/// Runs those of the tests whose names hold one of the process's arguments; all without one.
pub fn main(tests: &[(&'static str, Test)]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo's own options for a harness (`--nocapture` and the like) change nothing here.
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let chosen: Vec<_> = tests
        .iter()
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|f| name.contains(*f)))
        .collect();
    if arguments.iter().any(|a| a == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if chosen.is_empty() {
        eprintln!("no test's name holds {filters:?}; `--list` shows them");
        return ExitCode::FAILURE;
    }
    match run(&chosen) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the tests could not begin: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the tests and returns how many failed.
fn run(chosen: &[&(&'static str, Test)]) -> Result<usize> {
    process::listen_for_signals()?;
    let began = Instant::now();
    let mut world = World::new()?;
    println!("nixpkgs: {}\nworld:   {}\n", world.nixpkgs, world.dir.display());
    let (mut passed, mut skipped, mut failed) = (0, 0, Vec::new());
    for (name, test) in chosen.iter().copied() {
        println!("test {name} ...");
        let test_began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| test(&mut world)))
            .unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked, as said above")));
        let seconds = test_began.elapsed().as_secs_f64();
        match result {
            Ok(Outcome::Passed) => {
                passed += 1;
                println!("test {name} ... ok ({seconds:.1} s)\n");
            }
            Ok(Outcome::Skipped(why)) => {
                skipped += 1;
                println!("test {name} ... SKIPPED ({seconds:.1} s): {why}\n");
            }
            Err(error) => {
                failed.push(name);
                println!("test {name} ... FAILED ({seconds:.1} s)\n{error:#}\n");
                println!("{}", world.guests().unwrap_or_else(|error| format!("{error:#}\n")));
            }
        }
        if process::interrupted() {
            println!("interrupted; cleaning up");
            break;
        }
    }
    drop(world);
    for name in &failed {
        println!("failed: {name}");
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{passed} passed, {} failed, {skipped} skipped ({seconds:.0} s)", failed.len());
    let missing = chosen.len() - passed - skipped - failed.len();
    Ok(failed.len() + missing)
}
