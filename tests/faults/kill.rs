//! The kill, and what must hold after it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::{Output, run};
use crate::world::World;

/// 128 + SIGKILL.
const KILLED: i32 = 137;

/// One command, and what it is to find, leave and do.
pub struct Case<'a> {
    /// What is typed after `nixvm`.
    pub command: &'a [&'a str],
    /// The machine whose `status` has to tell of it.
    pub machine: &'a str,
    /// Brings the host to where the command begins, whatever an earlier round left.
    pub prepare: &'a dyn Fn(&World) -> Result<()>,
    /// Holds after the kill.
    pub survived: &'a dyn Fn(&World) -> Result<()>,
    /// Holds when the same command was run again.
    pub completed: &'a dyn Fn(&World) -> Result<()>,
}

/// Kills the command at every boundary in turn, the one before its first step included, and returns how many there were.
pub fn at_every_boundary(world: &World, case: &Case) -> Result<usize> {
    for done in 0.. {
        let point = || format!("`nixvm {}`, killed after {done} steps", case.command.join(" "));
        (case.prepare)(world).with_context(|| format!("before {}", point()))?;
        let ended = dies_after(world, case.command, done)?;
        if ended.code == 0 {
            (case.completed)(world)
                .with_context(|| format!("`nixvm {}`, not killed", case.command.join(" ")))?;
            // Were there no step at all, nothing would have been shown.
            ensure!(done > 1, "no step of {ended} was reached");
            println!("    {done} kill points: nixvm {}", case.command.join(" "));
            return Ok(done);
        }
        ensure!(ended.code == KILLED, "it was not killed, but failed:\n{ended}");
        // Killed after the last step, it is complete, and run again it would be a second command.
        if is_cut_short(world, case).with_context(point)? {
            (case.survived)(world).with_context(point)?;
            world.nixvm(case.command)?.ok().with_context(point)?;
            ensure!(
                !is_cut_short(world, case)?,
                "{}, and then completed, is still said to be cut short",
                point()
            );
        }
        (case.completed)(world).with_context(point)?;
    }
    Ok(0)
}

/// Returns whether the command was cut short, as `status` says; where the machine's files are gone and there is nobody to
/// say it of, by what it has not done.
fn is_cut_short(world: &World, case: &Case) -> Result<bool> {
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
    ensure!(verb == Some(case.command[0]) && work["pid"].is_null(), "`status` tells of other work: {work}");
    Ok(true)
}

fn dies_after(world: &World, command: &[&str], steps: usize) -> Result<Output> {
    let mut command = world.command(command);
    run(command.env("NIXVM_DIE_AFTER", steps.to_string()), b"", Duration::from_secs(600))
}
