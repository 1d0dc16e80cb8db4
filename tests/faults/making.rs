//! Commands that make a machine.

use anyhow::{Result, ensure};

use crate::harness::Outcome;
use crate::host;
use crate::kill::{Case, at_every_boundary};
use crate::world::World;

pub const K: &str = "e2e-k";

/// Makes the machine that a test kills commands on, off and small.
pub const CREATE: &[&str] = &["create", K, "core", "256", "1", "64M", "nat", "--from-agent"];

pub fn create_killed_anywhere_is_completed_by_create(world: &mut World) -> Result<Outcome> {
    let points = at_every_boundary(
        world,
        &Case {
            command: CREATE,
            machine: K,
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

/// Sees to it that the machine is there, new and off, with a marker in its data.
pub fn fresh(world: &World, machine: &str, marker: &str) -> Result<()> {
    gone(world, machine)?;
    world.nixvm(&[&CREATE[..1], &[machine], &CREATE[2..]].concat())?.ok()?;
    crate::data::write(world, machine, marker)
}
