//! The kill, and what must hold after it.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::harness::tell;
use crate::process::{Output, run};
use crate::world::World;

use super::causes;

/// 128 + SIGKILL.
const KILLED: i32 = 137;

/// How long a command may take to come to a step that it is to be killed in.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often it is looked at meanwhile: a step that takes long for a person may take a quarter of a second here.
const POLL: Duration = Duration::from_millis(5);

/// One command, and what it is to find, leave and do.
pub struct Case<'a> {
    /// What is typed after `nixvm`.
    pub command: &'a [&'a str],
    /// The machine whose `status` has to tell of it.
    pub machine: &'a str,
    /// Its exit code when it is not killed.
    pub ends: i32,
    /// Brings the host to where the command begins, whatever an earlier round left.
    pub prepare: &'a dyn Fn(&World) -> Result<()>,
    /// Holds after the kill.
    pub survived: &'a dyn Fn(&World) -> Result<()>,
    /// Holds when the same command was run again.
    pub completed: &'a dyn Fn(&World) -> Result<()>,
}

/// The middle of a long step.
pub struct Middle {
    /// What the command does then.
    pub of: &'static str,
    /// Whether it has written down by then what it is about to do: `status` has to tell of it.
    pub begun: bool,
    /// Returns whether it is there, as seen from outside.
    pub reached: Box<dyn Fn() -> Result<bool>>,
}

/// Kills the command at every boundary in turn, the one before its first step included, and returns how many there were.
pub fn at_every_boundary(world: &World, case: &Case) -> Result<usize> {
    for done in 0.. {
        let point = || format!("`nixvm {}`, killed after {done} steps", case.command.join(" "));
        (case.prepare)(world).with_context(|| format!("before {}", point()))?;
        let ended = dies_after(world, case.command, done)?;
        if ended.code == case.ends {
            (case.completed)(world)
                .with_context(|| format!("`nixvm {}`, not killed", case.command.join(" ")))?;
            // Were there no step at all, nothing would have been shown.
            ensure!(done > 1, "no step of {ended} was reached");
            tell!("{done} kill points: nixvm {}", case.command.join(" "));
            causes::at_every_boundary(world, case, done)?;
            return Ok(done);
        }
        ensure!(ended.code == KILLED, "it was not killed, but failed:\n{ended}");
        // Killed after the last step, it is complete, and run again it would be a second command.
        if is_interrupted(world, case).with_context(point)? {
            again(world, case).with_context(point)?;
        }
        (case.completed)(world).with_context(point)?;
    }
    Ok(0)
}

/// Kills the command in the middle of each of these steps in turn.
pub fn in_the_middle(world: &World, case: &Case, steps: &[Middle]) -> Result<()> {
    let command = case.command.join(" ");
    for step in steps {
        let point = || format!("`nixvm {command}`, killed while it was to {}", step.of);
        (case.prepare)(world).with_context(|| format!("before {}", point()))?;
        killed_when(world, case.command, &step.reached).with_context(point)?;
        let told = is_interrupted(world, case).with_context(point)?;
        ensure!(told == step.begun, "{}: `status` tells {}", point(), if told { "of it" } else { "nothing" });
        again(world, case).with_context(point)?;
        (case.completed)(world).with_context(point)?;
    }
    let steps: Vec<&str> = steps.iter().map(|step| step.of).collect();
    tell!("{} kill points in the middle: nixvm {command}: {}", steps.len(), steps.join(", "));
    Ok(())
}

/// Checks what a killed command left, and runs it again.
fn again(world: &World, case: &Case) -> Result<()> {
    (case.survived)(world)?;
    world.nixvm(case.command)?.fails(case.ends)?;
    ensure!(!is_interrupted(world, case)?, "it was completed, and is still said to be interrupted");
    Ok(())
}

/// Begins a command and kills it from outside as soon as `reached` says so.
pub fn killed_when(world: &World, command: &[&str], reached: &dyn Fn() -> Result<bool>) -> Result<()> {
    let mut child = begun(world, command, reached)?;
    child.kill()?;
    let ended = child.wait()?;
    ensure!(ended.code().is_none(), "it ended ({ended}) before it could be killed");
    Ok(())
}

/// Begins a command and returns it as soon as `reached` says so.
pub fn begun(world: &World, command: &[&str], reached: &dyn Fn() -> Result<bool>) -> Result<Child> {
    let began = Instant::now();
    let mut program = world.command(command);
    let mut child = program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let error = loop {
        match reached() {
            Ok(false) if began.elapsed() > PATIENCE => break anyhow!("it never came so far"),
            Ok(false) => {}
            Ok(true) => return Ok(child),
            Err(error) => break error,
        }
        if let Some(status) = child.try_wait()? {
            bail!("it ended ({status}) before it came so far");
        }
        std::thread::sleep(POLL);
    };
    child.kill()?;
    child.wait()?;
    Err(error)
}

/// Returns whether the command was interrupted, as `status` says; where the machine's files are gone and there is nobody to
/// say it of, by what it has not done.
fn is_interrupted(world: &World, case: &Case) -> Result<bool> {
    if !world.machine_dir(case.machine).exists() {
        return Ok((case.completed)(world).is_err());
    }
    let status = world.nixvm(&["status", case.machine, "--json"])?.ok()?;
    let json: serde_json::Value = serde_json::from_str(&status.stdout).with_context(|| status.to_string())?;
    let work = &json["work"];
    if work.is_null() {
        return Ok(false);
    }
    let verb = work["command"].as_str().unwrap_or_default().split(' ').next();
    // The work of an `apply` is that of the verbs which it runs; here it upgrades.
    let expected = if case.command[0] == "apply" { "upgrade" } else { case.command[0] };
    ensure!(verb == Some(expected) && work["pid"].is_null(), "`status` tells of other work: {work}");
    Ok(true)
}

fn dies_after(world: &World, command: &[&str], steps: usize) -> Result<Output> {
    let mut command = world.command(command);
    run(command.env("NIXVM_DIE_AFTER", steps.to_string()), b"", Duration::from_secs(600))
}
