//! Commands that delete: what they were not told to delete stays, and once begun they can be finished.

use anyhow::{Result, ensure};

use crate::data;
use crate::harness::Outcome;
use crate::host;
use crate::kill::{Case, at_every_boundary};
use crate::making::{K, fresh, gone};
use crate::world::World;

/// A machine whose name begins like the other's.
const NEIGHBOUR: &str = "e2e-k-2";

pub fn destroy_killed_anywhere_is_completed_by_destroy(world: &mut World) -> Result<Outcome> {
    fresh(world, NEIGHBOUR, "neighbour")?;
    let points = at_every_boundary(
        world,
        &Case {
            command: &["destroy", K, "--yes"],
            machine: K,
            prepare: &|world| fresh(world, K, "mine"),
            survived: &|world| {
                neighbour(world)?;
                ensure!(world.machine_dir(K).exists(), "`destroy` deleted the files");
                let listed = world.nixvm(&["list"])?.ok()?;
                ensure!(listed.stdout.contains(&format!("{K} ")), "it is not listed any more:\n{listed}");
                // Half a machine must not be started.
                if host::definition(K)?.is_some() {
                    world.nixvm(&["start", K])?.refused(1, &["destroy"])?;
                }
                Ok(())
            },
            completed: &|world| {
                neighbour(world)?;
                ensure!(host::definition(K)?.is_none(), "the domain is there");
                let left = host::volumes_of(&world.pool, K)?;
                ensure!(left.is_empty() && world.machine_dir(K).exists(), "left: {left:?}");
                Ok(())
            },
        },
    );
    gone(world, K)?;
    gone(world, NEIGHBOUR)?;
    points.map(|_| Outcome::Passed)
}

pub fn purge_killed_anywhere_is_completed_by_purge(world: &mut World) -> Result<Outcome> {
    fresh(world, NEIGHBOUR, "neighbour")?;
    let points = at_every_boundary(
        world,
        &Case {
            command: &["purge", K, "--yes"],
            machine: K,
            prepare: &|world| fresh(world, K, "mine"),
            survived: &neighbour,
            completed: &|world| {
                neighbour(world)?;
                ensure!(host::definition(K)?.is_none(), "the domain is there");
                let left = host::volumes_of(&world.pool, K)?;
                ensure!(left.is_empty() && !world.machine_dir(K).exists(), "left: {left:?}");
                Ok(())
            },
        },
    );
    gone(world, NEIGHBOUR)?;
    points.map(|_| Outcome::Passed)
}

fn neighbour(world: &World) -> Result<()> {
    let marker = data::read(world, NEIGHBOUR)?;
    ensure!(marker == "neighbour", "{NEIGHBOUR}'s data is {marker:?}");
    Ok(())
}
