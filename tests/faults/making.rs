//! Commands that make a machine.

use anyhow::{Result, ensure};

use crate::harness::Outcome;
use crate::host;
use crate::process::root;
use crate::world::World;

use super::kill::{Case, at_every_boundary, in_the_middle};
use super::middle;

pub const K: &str = "e2e-k";

/// Makes the machine that a test kills commands on, off and small.
pub const CREATE: &[&str] = &["create", K, "core", "256", "1", "64M", "nat", "--from-agent"];

pub fn create_killed_anywhere_is_completed_by_create(world: &mut World) -> Result<Outcome> {
    let points = at_every_boundary(
        world,
        &Case {
            command: CREATE,
            machine: K,
            ends: 0,
            prepare: &|world| gone(world, K),
            survived: &|world| {
                // Before the last step there is no machine that could run on half of its disks.
                let whole = ["boot", "data", "identity"]
                    .iter()
                    .all(|role| host::volume(&world.pool, K, role).is_ok());
                ensure!(host::definition(K)?.is_none() || whole, "a domain was defined without its disks");
                Ok(())
            },
            completed: &|world| {
                let mut volumes = host::volumes_of(&world.pool, K)?;
                volumes.sort();
                let expected =
                    ["boot-1.qcow2", "data-1.qcow2", "identity.img"].map(|role| format!("{K}.{role}"));
                ensure!(volumes == expected, "{K} has {volumes:?}");
                ensure!(host::state(K)? == "shut off", "{K} is {}", host::state(K)?);
                Ok(())
            },
        },
    );
    gone(world, K)?;
    points.map(|_| Outcome::Passed)
}

pub fn create_killed_in_the_middle_of_a_step_is_completed_by_create(world: &mut World) -> Result<Outcome> {
    gone(world, K)?;
    middle::declare_slow_build(world, K)?;
    in_the_middle(
        world,
        &Case {
            command: CREATE,
            machine: K,
            ends: 0,
            prepare: &|world| {
                if host::definition(K)?.is_some() {
                    world.nixvm(&["destroy", K, "--yes"])?.ok()?;
                }
                middle::without_base(world)
            },
            survived: &|_| {
                ensure!(host::definition(K)?.is_none(), "a domain was defined without its disks");
                Ok(())
            },
            completed: &|world| {
                middle::as_built(world, K, "boot-1")?;
                ensure!(host::state(K)? == "shut off", "{K} is {}", host::state(K)?);
                Ok(())
            },
        },
        &middle::images(world, K, "boot-1"),
    )?;
    gone(world, K).map(|()| Outcome::Passed)
}

/// Sees to it that there is nothing of a machine.
pub fn gone(world: &World, machine: &str) -> Result<()> {
    if host::definition(machine)?.is_some()
        || world.machine_dir(machine).exists()
        || (host::has_pool(&world.pool)? && !host::volumes_of(&world.pool, machine)?.is_empty())
    {
        world.nixvm(&["purge", machine, "--yes"])?.ok()?;
    }
    Ok(())
}

/// Sees to it that the machine is there, new and off, with a marker in its data and room for [`fill`].
pub fn roomy(world: &World, machine: &str, marker: &str) -> Result<()> {
    gone(world, machine)?;
    world.nixvm(&["create", machine, "core", "256", "1", "512M", "nat", "--from-agent"])?.ok()?;
    super::data::write(world, machine, marker)
}

/// Writes that many MiB, 200 at most, to a part of the machine's disk that no file is in: more than is copied at once.
pub fn fill(world: &World, machine: &str, mib: u32) -> Result<()> {
    let command = format!("write -P 7 300M {mib}M");
    root("qemu-io", &["-f", "qcow2", "-c", &command, &super::data::top(world, machine)?]).map(drop)
}

/// Sees to it that the machine is there, new and off, with a marker in its data.
pub fn fresh(world: &World, machine: &str, marker: &str) -> Result<()> {
    gone(world, machine)?;
    world.nixvm(&[&CREATE[..1], &[machine], &CREATE[2..]].concat())?.ok()?;
    super::data::write(world, machine, marker)
}
