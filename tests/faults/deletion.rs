//! Commands that delete: what they were not told to delete stays, and once begun they can be finished.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::harness::Outcome;
use crate::host;
use crate::process::root;
use crate::world::World;

use super::data;
use super::kill::{Case, at_every_boundary};
use super::making::{K, fresh, gone};
use super::saved::Saved;

/// A machine whose name begins like the other's.
const NEIGHBOUR: &str = "e2e-k-2";

pub fn destroy_killed_anywhere_is_completed_by_destroy(world: &mut World) -> Result<Outcome> {
    fresh(world, NEIGHBOUR, "neighbour")?;
    fresh(world, K, "mine")?;
    let saved = Saved::of(world, K)?;
    let points = at_every_boundary(
        world,
        &Case {
            command: &["destroy", K, "--yes"],
            machine: K,
            ends: 0,
            prepare: &|world| saved.put_back(world),
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
    fresh(world, K, "mine")?;
    let saved = Saved::of(world, K)?;
    let points = at_every_boundary(
        world,
        &Case {
            command: &["purge", K, "--yes"],
            machine: K,
            ends: 0,
            prepare: &|world| saved.put_back(world),
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

/// By `purge`, and by `clean` where somebody deleted the machine by hand.
pub fn nothing_is_left_in_output_of_a_machine_that_is_no_more(world: &mut World) -> Result<Outcome> {
    let output = world.workspace.join("output");
    let left = |machine: &str| -> Result<String> {
        let script = r#"cd "$1" && find . -name "$2" -o -name "vm-$2" -o -name "$2.lock" -o -name "$2.json""#;
        let folder = output.to_str().context("a path that is no UTF-8")?;
        Ok(root("sh", &["-c", script, "sh", folder, machine])?.stdout)
    };
    fresh(world, NEIGHBOUR, "neighbour")?;
    fresh(world, K, "mine")?;
    for machine in [NEIGHBOUR, K] {
        // As `ssh` does.
        host::write_private(&output.join("known_hosts").join(machine), "nixvm-e2e ssh-ed25519 AAAA\n")?;
    }
    let (saved, kept) = (Saved::of(world, K)?, left(NEIGHBOUR)?);
    ensure!(left(K)?.lines().count() == 4, "{K} has not what it should have:\n{}", left(K)?);
    world.nixvm(&["purge", K, "--yes"])?.ok()?;
    ensure!(left(K)?.is_empty(), "`purge` left\n{}", left(K)?);

    saved.put_back(world)?;
    world.nixvm(&["upgrade", K])?.ok()?;
    host::virsh(&["undefine", K, "--nvram"])?;
    fs::remove_dir_all(world.machine_dir(K))?;
    let listed = world.nixvm(&["clean", "--dry-run"])?.ok()?;
    for name in left(K)?.lines() {
        ensure!(listed.stdout.contains(name.trim_start_matches('.')), "{name} is not listed:\n{listed}");
    }
    world.nixvm(&["clean", "--yes"])?.ok()?;
    ensure!(left(K)?.is_empty(), "`clean` left\n{}", left(K)?);
    host::unchanged("what nixvm has of another machine", &kept, &left(NEIGHBOUR)?)?;
    gone(world, K)?;
    gone(world, NEIGHBOUR)?;
    Ok(Outcome::Passed)
}

fn neighbour(world: &World) -> Result<()> {
    let marker = data::read(world, NEIGHBOUR)?;
    ensure!(marker == "neighbour", "{NEIGHBOUR}'s data is {marker:?}");
    Ok(())
}
