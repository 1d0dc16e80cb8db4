//! Commands that replace, copy or rename a machine.

use std::cell::RefCell;

use anyhow::{Result, ensure};

use crate::harness::Outcome;
use crate::host;
use crate::world::World;

use super::data;
use super::kill::{Case, at_every_boundary, in_the_middle};
use super::making::{K, fill, fresh, gone, roomy};
use super::middle;
use super::running;
use super::saved::Saved;

/// The machine that comes of the other.
const N: &str = "e2e-n";

pub fn recreate_killed_anywhere_is_completed_by_recreate(world: &mut World) -> Result<Outcome> {
    fresh(world, K, "mine")?;
    let made = |world: &World| -> Result<String> {
        // Where it was not deleted, the data is whole and is what the machine has.
        let identity = ["machine-id", "mac-address", "ssh_host_ed25519_key"];
        Ok(identity.map(|file| world.file(K, file)).into_iter().collect::<Result<Vec<_>>>()?.join(""))
    };
    let (saved, identity) = (Saved::of(world, K)?, made(world)?);
    // The data that the machine had when the command ended and was not done.
    let left = RefCell::new(None);
    let points = at_every_boundary(
        world,
        &Case {
            command: &["recreate", K, "128M", "--yes"],
            machine: K,
            ends: 0,
            prepare: &|world| saved.put_back(world),
            survived: &|world| {
                // Old or new, and nothing between: all of the disks that the domain is defined on are there.
                let old = has_marker(world)?;
                let capacity = capacity(world, K)?;
                ensure!(
                    old || capacity == 128 << 20,
                    "the data is gone, and the disk not the new one: {capacity} bytes"
                );
                left.replace(if old { None } else { Some(data::top(world, K)?) });
                host::unchanged("`recreate`, of the identity,", &identity, &made(world)?)
            },
            completed: &|world| {
                ensure!(!has_marker(world)?, "the old data is there");
                let (top, before) = (data::top(world, K)?, left.take());
                ensure!(
                    before.is_none_or(|before| before == top),
                    "what was new already was replaced by {top}"
                );
                ensure!(capacity(world, K)? == 128 << 20, "the disk has {} bytes", capacity(world, K)?);
                let volumes = host::volumes_of(&world.pool, K)?;
                let count = |role: &str| volumes.iter().filter(|name| name.contains(role)).count();
                ensure!(count("data") == 1 && count("boot") == 1, "{K} has {volumes:?}");
                host::unchanged("`recreate`, of the identity,", &identity, &made(world)?)
            },
        },
    );
    gone(world, K)?;
    points.map(|_| Outcome::Passed)
}

pub fn recreate_killed_in_the_middle_of_a_step_is_completed_by_recreate(
    world: &mut World,
) -> Result<Outcome> {
    fresh(world, K, "mine")?;
    middle::declare_slow_build(world, K)?;
    let saved = Saved::of(world, K)?;
    let [build, .., boot_disk] = middle::images(world, K, "boot-2");
    in_the_middle(
        world,
        &Case {
            command: &["recreate", K, "--yes"],
            machine: K,
            ends: 0,
            prepare: &|world| saved.put_back(world),
            survived: &|world| {
                ensure!(has_marker(world)?, "the data was deleted before the new disks were there");
                Ok(())
            },
            completed: &|world| {
                ensure!(!has_marker(world)?, "the old data is there");
                middle::as_built(world, K, "boot-2")
            },
        },
        &[build, boot_disk],
    )?;
    gone(world, K).map(|()| Outcome::Passed)
}

pub fn clone_killed_in_the_middle_of_the_copy_is_completed_by_clone(world: &mut World) -> Result<Outcome> {
    roomy(world, K, "mine")?;
    fill(world, K, 96)?;
    for runs in [false, true] {
        if runs {
            running::suspended(world, K)?;
        }
        let disk = data::digest(world, &data::top(world, K)?)?;
        let steps = [
            middle::grows(world, "copy the data", &format!("{N}.data-1.qcow2.*.part")),
            middle::grows(world, "have libvirt copy the copy", &format!("{N}.data-1.qcow2")),
        ];
        in_the_middle(
            world,
            &Case {
                command: &["clone", K, N],
                machine: N,
                ends: 0,
                prepare: &|world| gone(world, N),
                survived: &|_| {
                    ensure!(host::definition(N)?.is_none(), "a clone was defined without its data");
                    ensure!((host::state(K)? == "paused") == runs, "the original is {}", host::state(K)?);
                    Ok(())
                },
                completed: &|world| {
                    let copy = data::digest(world, &data::top(world, N)?)?;
                    host::unchanged("`clone`, of the data,", &disk, &copy)?;
                    let volumes = host::volumes_of(&world.pool, N)?;
                    ensure!(volumes.len() == 3, "{N} has {volumes:?}");
                    Ok(())
                },
            },
            // The copy once made, both go the same way.
            &steps[..if runs { 1 } else { 2 }],
        )?;
    }
    gone(world, N)?;
    gone(world, K).map(|()| Outcome::Passed)
}

/// The machine runs, and nobody waits for its guest: its disk can be copied all the same.
pub fn clone_of_a_running_machine_killed_anywhere_is_completed_by_clone(
    world: &mut World,
) -> Result<Outcome> {
    fresh(world, K, "mine")?;
    world.nixvm(&["start", K])?.ok()?;
    let points = at_every_boundary(
        world,
        &Case {
            command: &["clone", K, N],
            machine: N,
            ends: 0,
            prepare: &|world| gone(world, N),
            survived: &|_| {
                ensure!(host::state(K)? == "running", "the original does not run any more");
                Ok(())
            },
            completed: &|world| {
                let marker = data::read(world, N)?;
                ensure!(marker == "mine", "the clone's data is {marker:?}");
                let volumes = host::volumes_of(&world.pool, N)?;
                ensure!(volumes.len() == 3, "{N} has {volumes:?}");
                Ok(())
            },
        },
    );
    world.nixvm(&["force-stop", K])?.ok()?;
    let kept = data::read(world, K)?;
    gone(world, N)?;
    gone(world, K)?;
    ensure!(kept == "mine", "the original's data is {kept:?}");
    points.map(|_| Outcome::Passed)
}

pub fn clone_killed_anywhere_is_completed_by_clone(world: &mut World) -> Result<Outcome> {
    fresh(world, K, "mine")?;
    let original = |world: &World| -> Result<String> {
        let disks = host::sha256(&[data::top(world, K)?, host::volume(&world.pool, K, "boot")?])?;
        Ok([disks, host::defined(K)?, host::tree(&world.machine_dir(K))?].join("\n"))
    };
    let before = original(world)?;
    let untouched = |world: &World| host::unchanged("`clone`, of the original,", &before, &original(world)?);
    let points = at_every_boundary(
        world,
        &Case {
            command: &["clone", K, N],
            machine: N,
            ends: 0,
            prepare: &|world| gone(world, N),
            survived: &|world| {
                untouched(world)?;
                if host::definition(N)?.is_some() {
                    let marker = data::read(world, N)?;
                    ensure!(marker == "mine", "a clone was defined with the data {marker:?}");
                }
                Ok(())
            },
            completed: &|world| {
                untouched(world)?;
                let marker = data::read(world, N)?;
                ensure!(marker == "mine", "the clone's data is {marker:?}");
                let volumes = host::volumes_of(&world.pool, N)?;
                ensure!(volumes.len() == 3, "{N} has {volumes:?}");
                for file in ["machine-id", "uuid", "mac-address", "ssh_host_ed25519_key", "hostname"] {
                    ensure!(
                        world.file(N, file)? != world.file(K, file)?,
                        "both machines have the same {file}"
                    );
                }
                Ok(())
            },
        },
    );
    gone(world, N)?;
    gone(world, K)?;
    points.map(|_| Outcome::Passed)
}

pub fn rename_killed_anywhere_is_completed_by_rename(world: &mut World) -> Result<Outcome> {
    fresh(world, K, "mine")?;
    let saved = Saved::of(world, K)?;
    let points = at_every_boundary(
        world,
        &Case {
            command: &["rename", K, N],
            machine: K,
            ends: 0,
            prepare: &|world| {
                gone(world, N)?;
                saved.put_back(world)
            },
            survived: &|world| {
                let name =
                    [K, N].into_iter().find(|name| host::definition(name).is_ok_and(|xml| xml.is_some()));
                let name = name.ok_or_else(|| anyhow::anyhow!("there is no domain any more"))?;
                ensure!(data::read(world, name)? == "mine", "the data is lost");
                // Half of it must not be taken for the whole, under either name.
                for command in
                    [&["start", K][..], &["start", N], &["purge", K, "--yes"], &["purge", N, "--yes"]]
                {
                    world.nixvm(command)?.refused(1, &[])?;
                }
                ensure!(data::read(world, name)? == "mine", "the data is lost");
                Ok(())
            },
            completed: &|world| {
                ensure!(host::definition(K)?.is_none(), "there is a domain of the old name");
                ensure!(data::read(world, N)? == "mine", "the data is lost");
                ensure!(
                    !world.machine_dir(K).exists() && world.machine_dir(N).exists(),
                    "the folder is not renamed"
                );
                ensure!(world.file(N, "hostname")?.trim() == N, "the hostname is not the new name");
                let status = world.nixvm(&["status", N])?.ok()?;
                ensure!(
                    status.stdout.contains(&format!("{K}.data-1.qcow2")),
                    "its disks are not found:\n{status}"
                );
                Ok(())
            },
        },
    );
    gone(world, N)?;
    gone(world, K)?;
    points.map(|_| Outcome::Passed)
}

fn has_marker(world: &World) -> Result<bool> {
    Ok(data::read(world, K)? == "mine")
}

/// Returns the bytes that a guest sees of the data disk.
pub fn capacity(world: &World, machine: &str) -> Result<u64> {
    let top = data::top(world, machine)?;
    let said = crate::process::root("qemu-img", &["info", "-U", "--output=json", &top])?;
    let info: serde_json::Value = serde_json::from_str(&said.stdout)?;
    info["virtual-size"].as_u64().ok_or_else(|| anyhow::anyhow!("qemu-img says {said}"))
}
