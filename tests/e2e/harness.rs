//! Runs tests: by name, timed, what each one says kept together, and everything cleaned up at the end.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::process;
use crate::world::{Run, World};

/// How a test ended that did not fail.
pub enum Outcome {
    Passed,
    /// This host cannot show it, for that reason.
    Skipped(String),
}

pub type Test = fn(&mut World) -> Result<Outcome>;

type Named = (&'static str, Test);

/// Tests that run one after another, in one world whose machines they may share.
#[derive(Clone, Copy)]
pub struct Group {
    pub tests: &'static [Named],
    pub world: fn(&Run) -> Result<World>,
}

/// Makes a group of tests, named by their paths: `tests![module::name, …]`, or `tests![world; module::name, …]` in a world that
/// is made otherwise.
macro_rules! tests {
    ($world:expr; $($module:ident::$name:ident),* $(,)?) => {
        $crate::harness::Group {
            world: $world,
            tests: &[$((
                concat!(module_path!(), "::", stringify!($module), "::", stringify!($name)),
                $module::$name as $crate::harness::Test,
            )),*],
        }
    };
    ($($tests:tt)*) => { $crate::harness::tests![$crate::world::World::new; $($tests)*] };
}
pub(crate) use tests;

thread_local! {
    /// What the test that runs on this thread has told so far.
    static TOLD: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Tells something of the test that is at work: it is printed when the test ends.
macro_rules! tell {
    ($($argument:tt)*) => { crate::harness::told(&format!($($argument)*)) };
}
pub(crate) use tell;

pub fn told(line: &str) {
    TOLD.with_borrow_mut(|told| *told += &format!("    {line}\n"));
}

/// Runs those of the tests whose paths hold one of the process's arguments; all without one. A group of `alone` has the
/// host to itself; of the others, `--test-threads` run at a time. Each has a world of its own.
pub fn main(alone: &[Group], beside_each_other: &[Group]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo's other options for a harness (`--nocapture` and the like) change nothing here.
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let chosen = |groups: &[Group]| -> Vec<Chosen> {
        let named = |path: &str| filters.is_empty() || filters.iter().any(|f| path.contains(*f));
        let of = |group: &Group| Chosen {
            tests: group.tests.iter().copied().filter(|(path, _)| named(path)).collect(),
            world: group.world,
        };
        groups.iter().map(of).filter(|group| !group.tests.is_empty()).collect()
    };
    let (alone, beside_each_other) = (chosen(alone), chosen(beside_each_other));
    if arguments.iter().any(|a| a == "--list") {
        let all = alone.iter().chain(&beside_each_other).flat_map(|group| &group.tests);
        all.for_each(|(path, _)| println!("{}: test", name(path)));
        return ExitCode::SUCCESS;
    }
    if alone.is_empty() && beside_each_other.is_empty() {
        eprintln!("no test's name holds {filters:?}; `--list` shows them");
        return ExitCode::FAILURE;
    }
    match threads(&arguments).and_then(|threads| run(&alone, beside_each_other, threads)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the tests could not go on: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Those of a group that are to run.
struct Chosen {
    tests: Vec<Named>,
    world: fn(&Run) -> Result<World>,
}

fn name(path: &'static str) -> &'static str {
    path.rsplit("::").next().unwrap_or(path)
}

fn threads(arguments: &[String]) -> Result<usize> {
    let Some(given) = arguments.iter().find_map(|a| a.strip_prefix("--test-threads")) else { return Ok(1) };
    let number = given.strip_prefix('=').context("write --test-threads=NUMBER")?;
    let threads = number.parse().with_context(|| format!("--test-threads={number} is no number"))?;
    ensure!((1..=8).contains(&threads), "--test-threads={threads}: from 1 to 8 worlds fit beside each other");
    Ok(threads)
}

/// Counts tests by how they ended.
#[derive(Default)]
struct Tally {
    passed: usize,
    skipped: usize,
    failed: Vec<&'static str>,
}

/// Runs the tests and returns how many did not pass.
fn run(alone: &[Chosen], beside_each_other: Vec<Chosen>, threads: usize) -> Result<usize> {
    process::listen_for_signals()?;
    let began = Instant::now();
    let chosen = alone.iter().chain(&beside_each_other).map(|group| group.tests.len()).sum::<usize>();
    let common = Run::new()?;
    println!("nixpkgs: {}\n", common.nixpkgs);
    let tally = Mutex::new(Tally::default());
    alone.iter().try_for_each(|group| in_a_world(&common, group, &tally))?;
    let threads = threads.min(beside_each_other.len());
    let queue = Mutex::new(beside_each_other.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        let work = || std::iter::from_fn(next).try_for_each(|group| in_a_world(&common, &group, &tally));
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = |worker: ScopedJoinHandle<_>| worker.join().unwrap_or_else(|_| bail!("a world panicked"));
        workers.into_iter().try_for_each(ended)
    })?;
    let Tally { passed, skipped, failed } = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    for name in &failed {
        println!("failed: {name}");
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{passed} passed, {} failed, {skipped} skipped ({seconds:.0} s)", failed.len());
    Ok(chosen - passed - skipped)
}

/// Runs a group of tests in a new world.
fn in_a_world(common: &Run, group: &Chosen, tally: &Mutex<Tally>) -> Result<()> {
    let mut world = (group.world)(common)?;
    for (path, test) in &group.tests {
        one(&mut world, name(path), *test, tally);
        ensure!(!process::interrupted(), "interrupted");
    }
    Ok(())
}

fn one(world: &mut World, name: &'static str, test: Test, tally: &Mutex<Tally>) {
    println!("test {name} ...");
    let began = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| test(world)))
        .unwrap_or_else(|_| Err(anyhow!("it panicked, as said above")));
    let seconds = began.elapsed().as_secs_f64();
    let told = TOLD.take();
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    match result {
        Ok(Outcome::Passed) => {
            tally.passed += 1;
            println!("test {name} ... ok ({seconds:.1} s)\n{told}");
        }
        Ok(Outcome::Skipped(why)) => {
            tally.skipped += 1;
            println!("test {name} ... SKIPPED ({seconds:.1} s): {why}\n{told}");
        }
        Err(error) => {
            tally.failed.push(name);
            println!("test {name} ... FAILED ({seconds:.1} s)\n{told}{error:#}\n");
            println!("{}", world.guests().unwrap_or_else(|error| format!("{error:#}\n")));
        }
    }
}
