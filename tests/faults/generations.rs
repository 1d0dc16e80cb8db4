//! Commands that change which system a machine has.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::data;
use crate::harness::Outcome;
use crate::host;
use crate::kill::{Case, at_every_boundary};
use crate::making::{K, fresh, gone};
use crate::world::World;

const MARKER: &str = "generations";

fn extra(world: &World, number: u32) -> Result<()> {
    let text = format!("{{ environment.etc.\"e2e-number\".text = \"{number}\\n\"; }}\n");
    host::write_private(&world.machine_dir(K).join("extra.nix"), &text)
}

/// Returns the number of the current generation and of all there are; each has its disk in the pool.
fn generations(world: &World) -> Result<(u64, Vec<u64>)> {
    let listed = world.nixvm(&["generations", K, "--json"])?.ok()?;
    let all: Vec<Value> = serde_json::from_str(&listed.stdout).with_context(|| listed.to_string())?;
    let number = |generation: &Value| generation["number"].as_u64().unwrap_or_default();
    ensure!(all.iter().all(|generation| !generation["bytes"].is_null()), "a disk is missing: {listed}");
    let current = all.iter().find(|generation| generation["current"] == true).map(number);
    Ok((current.context("none is current")?, all.iter().map(number).collect()))
}

/// The machine is whole: its data is there, and so is the disk of every generation that it is said to have.
fn whole(world: &World) -> Result<()> {
    ensure!(data::read(world, K)? == MARKER, "the data of {K} changed");
    generations(world).map(drop)
}

/// The machine has these generations, and no boot disk beside theirs.
fn has(world: &World, current: u64, all: &[u64]) -> Result<()> {
    whole(world)?;
    let found = generations(world)?;
    ensure!(found == (current, all.to_vec()), "{K} has {found:?} instead of {current} of {all:?}");
    let mut disks = host::volumes_of(&world.pool, K)?;
    disks.retain(|volume| volume.contains(".boot-"));
    ensure!(disks.len() == all.len(), "the pool has {disks:?}");
    Ok(())
}

/// Brings the machine to two generations, the second current.
fn two(world: &World) -> Result<()> {
    fresh(world, K, MARKER)?;
    extra(world, 2)?;
    world.nixvm(&["upgrade", K])?.ok().map(drop)
}

pub fn upgrade_killed_anywhere_is_completed_by_upgrade(world: &mut World) -> Result<Outcome> {
    let points = at_every_boundary(
        world,
        &Case {
            command: &["upgrade", K],
            machine: K,
            prepare: &|world| {
                fresh(world, K, MARKER)?;
                extra(world, 2)
            },
            survived: &whole,
            completed: &|world| has(world, 2, &[1, 2]),
        },
    );
    gone(world, K)?;
    points.map(|_| Outcome::Passed)
}

pub fn rollback_killed_anywhere_is_completed_by_rollback(world: &mut World) -> Result<Outcome> {
    let points = at_every_boundary(
        world,
        &Case {
            command: &["rollback", K, "1"],
            machine: K,
            prepare: &two,
            survived: &whole,
            completed: &|world| has(world, 1, &[1, 2]),
        },
    );
    gone(world, K)?;
    points.map(|_| Outcome::Passed)
}

pub fn old_generations_killed_anywhere_are_removed_by_the_same(world: &mut World) -> Result<Outcome> {
    let points = at_every_boundary(
        world,
        &Case {
            command: &["generations", K, "--keep", "1"],
            machine: K,
            prepare: &two,
            survived: &whole,
            completed: &|world| has(world, 2, &[2]),
        },
    );
    gone(world, K)?;
    points.map(|_| Outcome::Passed)
}
