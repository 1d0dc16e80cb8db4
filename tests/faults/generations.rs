//! Commands that change which system a machine has.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::harness::Outcome;
use crate::host;
use crate::world::World;

use super::data;
use super::kill::{Case, at_every_boundary, in_the_middle};
use super::making::{K, fresh, gone};
use super::middle;
use super::saved::Saved;

pub const MARKER: &str = "generations";

pub fn extra(world: &World, number: u32) -> Result<()> {
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
pub fn whole(world: &World) -> Result<()> {
    ensure!(data::read(world, K)? == MARKER, "the data of {K} changed");
    generations(world).map(drop)
}

/// Returns the generation that the machine is defined on.
pub fn current(world: &World) -> Result<u64> {
    Ok(generations(world)?.0)
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

/// Makes a machine that has one generation and is declared to have another.
pub fn one(world: &World) -> Result<Saved> {
    fresh(world, K, MARKER)?;
    extra(world, 2)?;
    Saved::of(world, K)
}

/// Makes a machine of two generations, the second current.
fn two(world: &World) -> Result<Saved> {
    fresh(world, K, MARKER)?;
    extra(world, 2)?;
    world.nixvm(&["upgrade", K])?.ok()?;
    Saved::of(world, K)
}

pub fn promise_6_an_upgrade_killed_anywhere_is_completed_by_upgrade(world: &mut World) -> Result<Outcome> {
    let saved = one(world)?;
    let points = at_every_boundary(
        world,
        &Case {
            command: &["upgrade", K],
            machine: K,
            ends: 0,
            prepare: &|world| saved.put_back(world),
            survived: &whole,
            completed: &|world| has(world, 2, &[1, 2]),
        },
    );
    gone(world, K)?;
    points.map(|_| Outcome::Passed)
}

pub fn apply_killed_anywhere_is_completed_by_apply(world: &mut World) -> Result<Outcome> {
    let saved = one(world)?;
    let points = at_every_boundary(
        world,
        &Case {
            command: &["apply", K],
            machine: K,
            ends: 0,
            prepare: &|world| saved.put_back(world),
            survived: &whole,
            completed: &|world| {
                has(world, 2, &[1, 2])?;
                let again = world.nixvm(&["apply", K, "--dry-run"])?.ok()?;
                ensure!(again.text() == "1 of 1 machines as declared", "more is due:\n{again}");
                Ok(())
            },
        },
    );
    gone(world, K)?;
    points.map(|_| Outcome::Passed)
}

pub fn upgrade_killed_in_the_middle_of_a_step_is_completed_by_upgrade(world: &mut World) -> Result<Outcome> {
    fresh(world, K, MARKER)?;
    middle::declare_slow_build(world, K)?;
    let saved = Saved::of(world, K)?;
    in_the_middle(
        world,
        &Case {
            command: &["upgrade", K],
            machine: K,
            ends: 0,
            prepare: &|world| {
                saved.put_back(world)?;
                // The machine is off, and to its next generation this is the base of a profile that is new.
                middle::without_base(world)
            },
            survived: &|world| {
                whole(world)?;
                ensure!(generations(world)? == (1, vec![1]), "{K} has {:?}", generations(world)?);
                Ok(())
            },
            completed: &|world| {
                has(world, 2, &[1, 2])?;
                middle::as_built(world, K, "boot-2")
            },
        },
        &middle::images(world, K, "boot-2"),
    )?;
    gone(world, K).map(|()| Outcome::Passed)
}

pub fn rollback_killed_anywhere_is_completed_by_rollback(world: &mut World) -> Result<Outcome> {
    let saved = two(world)?;
    let points = at_every_boundary(
        world,
        &Case {
            command: &["rollback", K, "1"],
            machine: K,
            ends: 0,
            prepare: &|world| saved.put_back(world),
            survived: &whole,
            completed: &|world| has(world, 1, &[1, 2]),
        },
    );
    gone(world, K)?;
    points.map(|_| Outcome::Passed)
}

pub fn old_generations_killed_anywhere_are_removed_by_the_same(world: &mut World) -> Result<Outcome> {
    let saved = two(world)?;
    let points = at_every_boundary(
        world,
        &Case {
            command: &["generations", K, "--keep", "1"],
            machine: K,
            ends: 0,
            prepare: &|world| saved.put_back(world),
            survived: &whole,
            completed: &|world| has(world, 2, &[2]),
        },
    );
    gone(world, K)?;
    points.map(|_| Outcome::Passed)
}
