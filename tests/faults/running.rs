//! Commands that restart a machine that runs, with nobody in its guest.
//!
//! A boot would add a minute to each point. So the guest is suspended at once or has nothing to boot from, and where nixvm
//! waits for it to go down, it is switched off instead of it.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::harness::{Outcome, tell};
use crate::host;
use crate::process::root;
use crate::world::World;

use super::data;
use super::generations::{MARKER, current, one, whole};
use super::kill::{Case, Middle, at_every_boundary, killed_when};
use super::making::{K, gone};
use super::saved::Saved;

/// Starts the machine and stops its guest before it does anything.
pub fn suspended(world: &World, machine: &str) -> Result<()> {
    world.nixvm(&["start", machine])?.ok()?;
    host::virsh(&["suspend", machine]).map(drop)
}

/// Takes from the machine, which is off, what it could boot from: libvirt asks no guest to shut down that is suspended.
pub fn make_unbootable(world: &World, machine: &str) -> Result<()> {
    let volume = host::volume(&world.pool, machine, "boot-1")?;
    root("qemu-io", &["-f", "qcow2", "-c", "write -z 0 64k", &volume]).map(drop)
}

/// Returns the middle of waiting for the guest of `K` to go down.
pub fn shutdown(world: &World) -> Middle {
    let journal = world.workspace.join(format!("output/work/{K}.json"));
    let reached = move || {
        // It is the first step.
        let begun = journal.metadata().and_then(|metadata| metadata.modified()).ok();
        Ok(begun.is_some_and(|begun| begun.elapsed().is_ok_and(|since| since > Duration::from_secs(1))))
    };
    Middle { of: "shut the machine down", begun: true, reached: Box::new(reached) }
}

/// Stands in for the guest of `K` and goes down when nixvm asks for it.
struct Guest(Child);

impl Guest {
    fn begin() -> Result<Self> {
        let script = format!(
            "export LC_ALL=C; v='virsh --quiet --connect qemu:///system'; while :; do \
             $v qemu-monitor-event {K} --event POWERDOWN --timeout 5 && $v destroy {K} || sleep 0.1; done"
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Guest(bash.spawn()?))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes a machine that has one generation, which is never up, is declared to have another, and is off.
fn unbootable(world: &World) -> Result<Saved> {
    one(world)?;
    make_unbootable(world, K)?;
    Saved::of(world, K)
}

/// Returns how that generation is said to have come up.
fn health(world: &World, number: u64) -> Result<String> {
    let listed = world.nixvm(&["generations", K, "--json"])?.ok()?;
    let all: Vec<Value> = serde_json::from_str(&listed.stdout)?;
    let one = all.iter().find(|generation| generation["number"] == number);
    Ok(one.and_then(|one| one["health"].as_str()).unwrap_or("not there").to_owned())
}

/// Returns the generation that runs; `None` where none does.
fn runs() -> Result<Option<u64>> {
    let xml = host::virsh(&["dumpxml", K])?.stdout;
    // What is off shows its definition.
    if host::attribute(&xml, "domain", "id").is_none() {
        return Ok(None);
    }
    let number = xml.split(&format!("{K}.boot-")).nth(1).and_then(|rest| rest.split('.').next());
    Ok(number.and_then(|number| number.parse().ok()))
}

pub fn upgrade_of_a_running_machine_killed_anywhere_is_completed_by_upgrade(
    world: &mut World,
) -> Result<Outcome> {
    let saved = unbootable(world)?;
    let _guest = Guest::begin()?;
    at_every_boundary(
        world,
        &Case {
            command: &["upgrade", K, "--no-health"],
            machine: K,
            ends: 0,
            prepare: &|world| {
                saved.put_back(world)?;
                world.nixvm(&["start", K])?.ok().map(drop)
            },
            survived: &|world| {
                whole(world)?;
                // What was not asked to go down goes on as it was.
                let (runs, defined) = (runs()?, current(world)?);
                ensure!(runs == Some(1) || defined == 2, "{runs:?} runs, {defined} is defined");
                Ok(())
            },
            completed: &|world| {
                whole(world)?;
                let (runs, defined) = (runs()?, current(world)?);
                ensure!((runs, defined) == (Some(2), 2), "{runs:?} runs, {defined} is defined");
                Ok(())
            },
        },
    )?;
    gone(world, K).map(|()| Outcome::Passed)
}

/// No guest of these ever comes up as nixvm wants it, so every upgrade goes all the way back.
pub fn an_upgrade_that_is_taken_back_killed_anywhere_is_taken_back_by_upgrade(
    world: &mut World,
) -> Result<Outcome> {
    let saved = unbootable(world)?;
    let _guest = Guest::begin()?;
    at_every_boundary(
        world,
        &Case {
            command: &["upgrade", K, "--timeout", "4"],
            machine: K,
            ends: 3,
            prepare: &|world| {
                saved.put_back(world)?;
                world.nixvm(&["start", K])?.ok().map(drop)
            },
            survived: &|world| {
                whole(world)?;
                // Once it is taken back, nothing but the old generation is ever started again.
                let (runs, defined) = (runs()?, current(world)?);
                ensure!(runs.is_some() || defined == 2 || health(world, 2)? == "unhealthy", "nothing runs");
                Ok(())
            },
            completed: &|world| {
                whole(world)?;
                let (runs, defined) = (runs()?, current(world)?);
                ensure!((runs, defined) == (Some(1), 1), "{runs:?} runs, {defined} is defined");
                ensure!(health(world, 2)? == "unhealthy", "generation 2 is {}", health(world, 2)?);
                Ok(())
            },
        },
    )?;
    gone(world, K).map(|()| Outcome::Passed)
}

pub fn rollback_of_a_running_machine_killed_anywhere_is_completed_by_rollback(
    world: &mut World,
) -> Result<Outcome> {
    unbootable(world)?;
    world.nixvm(&["upgrade", K])?.ok()?;
    let saved = Saved::of(world, K)?;
    let _guest = Guest::begin()?;
    at_every_boundary(
        world,
        &Case {
            command: &["rollback", K, "1", "--timeout", "4"],
            machine: K,
            // It is on generation 1 then, and told that this is not well.
            ends: 1,
            prepare: &|world| {
                saved.put_back(world)?;
                world.nixvm(&["start", K])?.ok().map(drop)
            },
            survived: &|world| {
                whole(world)?;
                let (runs, defined) = (runs()?, current(world)?);
                ensure!(runs == Some(2) || defined == 1, "{runs:?} runs, {defined} is defined");
                Ok(())
            },
            completed: &|world| {
                whole(world)?;
                let (runs, defined) = (runs()?, current(world)?);
                ensure!((runs, defined) == (Some(1), 1), "{runs:?} runs, {defined} is defined");
                ensure!(health(world, 1)? == "unhealthy", "generation 1 is {}", health(world, 1)?);
                Ok(())
            },
        },
    )?;
    gone(world, K).map(|()| Outcome::Passed)
}

pub fn recreate_of_a_running_machine_killed_anywhere_is_completed_by_recreate(
    world: &mut World,
) -> Result<Outcome> {
    let saved = unbootable(world)?;
    let world: &World = world;
    let identity = || -> Result<String> {
        let files = ["machine-id", "mac-address", "ssh_host_ed25519_key"].map(|file| world.file(K, file));
        Ok(files.into_iter().collect::<Result<Vec<_>>>()?.concat())
    };
    let before = identity()?;
    let has_marker = |world: &World| Ok::<_, anyhow::Error>(data::read(world, K)? == MARKER);
    let _guest = Guest::begin()?;
    at_every_boundary(
        world,
        &Case {
            command: &["recreate", K, "--yes"],
            machine: K,
            ends: 0,
            prepare: &|world| {
                saved.put_back(world)?;
                world.nixvm(&["start", K])?.ok().map(drop)
            },
            survived: &|world| {
                // The old disks, or the new ones; and nothing is switched off before the new ones are there.
                let volumes = host::volumes_of(&world.pool, K)?;
                let new = volumes.iter().any(|volume| volume.contains(".boot-2"));
                ensure!(
                    has_marker(world)? || new,
                    "the data is gone, and there are no new disks: {volumes:?}"
                );
                ensure!(runs()?.is_some() || new, "it was switched off for nothing: {volumes:?}");
                host::unchanged("`recreate`, of the identity,", &before, &identity()?)
            },
            completed: &|world| {
                ensure!(!has_marker(world)?, "the old data is there");
                // Killed behind the definition and run again it is a second one, with disks of its own.
                let (runs, defined) = (runs()?, current(world)?);
                ensure!(runs == Some(defined) && defined > 1, "{runs:?} runs, {defined} is defined");
                host::unchanged("`recreate`, of the identity,", &before, &identity()?)
            },
        },
    )?;
    gone(world, K).map(|()| Outcome::Passed)
}

/// Killed while it waits for the guest, and run again: no guest of these ever comes up, so it is taken back.
pub fn upgrade_killed_while_the_guest_comes_up_is_judged_by_the_next(world: &mut World) -> Result<Outcome> {
    let command = ["upgrade", K, "--timeout", "3"];
    unbootable(world)?;
    world.nixvm(&["start", K])?.ok()?;
    let _guest = Guest::begin()?;
    killed_when(world, &["upgrade", K], &|| Ok(runs()? == Some(2) && host::state(K)? == "running"))?;
    host::virsh(&["suspend", K])?;
    let status = world.nixvm(&["status", K, "--json"])?.ok()?;
    let json: Value = serde_json::from_str(&status.stdout)?;
    let place = json["work"]["place"].as_str().unwrap_or_default();
    ensure!(json["generation"] == 2 && json["state"] == "paused", "`status` says {json}");
    ensure!(place.contains("see how it comes up") || place.contains("start"), "`status` says {json}");
    whole(world)?;

    let taken_back = world.nixvm(&command)?.refused(3, &["generation 1 was started again"])?;
    whole(world)?;
    ensure!((runs()?, current(world)?) == (Some(1), 1), "{:?} runs after\n{taken_back}", runs()?);
    let status = world.nixvm(&["status", K, "--json"])?.ok()?;
    let json: Value = serde_json::from_str(&status.stdout)?;
    ensure!(json["work"].is_null() && json["generation"] == 1, "`status` says {json}");
    ensure!(data::read(world, K)? == MARKER, "the data of {K} changed");
    tell!("1 kill point in the middle: nixvm upgrade {K}: see how it comes up");
    gone(world, K).map(|()| Outcome::Passed)
}
