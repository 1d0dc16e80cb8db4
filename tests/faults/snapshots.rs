//! Snapshots: whatever dies, each shows exactly what it froze, and what was written last is there.
//!
//! Told by checksums of whole disks as a guest would see them. A machine that runs is suspended at once, so that nothing
//! but these tests writes to its disk.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::harness::Outcome;
use crate::host;
use crate::process::{root, wait_for};
use crate::world::World;

use super::data;
use super::kill::{Case, at_every_boundary, in_the_middle, killed_when};
use super::making::{K, fill, fresh, gone, roomy};
use super::middle;
use super::running;
use super::saved::Saved;

/// What each snapshot, and the machine itself under the name of `NOW`, shows.
type Shown = BTreeMap<String, String>;
const NOW: &str = "";

pub fn snapshot_killed_anywhere_loses_nothing(world: &mut World) -> Result<Outcome> {
    fresh(world, K, "mine")?;
    scribble(world, 1)?;
    let (saved, expected) = (Saved::of(world, K)?, shown(world)?);
    for runs in [false, true] {
        at_every_boundary(
            world,
            &Case {
                command: &["snapshot", K],
                machine: K,
                ends: 0,
                prepare: &|world| {
                    saved.put_back(world)?;
                    set_running(world, runs)
                },
                survived: &|world| all_show(world, &expected[NOW]),
                completed: &|world| {
                    all_show(world, &expected[NOW])?;
                    ensure!(shown(world)?.len() == 2, "not one snapshot, but {:?}", shown(world)?);
                    in_one_place(world)
                },
            },
        )?;
    }
    gone(world, K).map(|()| Outcome::Passed)
}

pub fn restore_snapshot_killed_anywhere_loses_nothing(world: &mut World) -> Result<Outcome> {
    with_snapshots(world, &["a", "b"])?;
    let (saved, was) = (Saved::of(world, K)?, shown(world)?);
    at_every_boundary(
        world,
        &Case {
            command: &["restore-snapshot", K, "a", "--yes"],
            machine: K,
            ends: 0,
            prepare: &|world| saved.put_back(world),
            survived: &|world| {
                let now = shown(world)?;
                same(&now, &was, &["a", "b"])?;
                ensure!(
                    now[NOW] == was[NOW] || (now[NOW] == was["a"] && now["before-a"] == was[NOW]),
                    "what was there is lost: {now:?} instead of {was:?}"
                );
                Ok(())
            },
            completed: &|world| {
                let now = shown(world)?;
                same(&now, &was, &["a", "b"])?;
                ensure!(now[NOW] == was["a"], "it is not as `a` was: {now:?} instead of {was:?}");
                ensure!(now["before-a"] == was[NOW], "what was there is lost: {now:?} instead of {was:?}");
                ensure!(now.len() == was.len() + 1, "snapshots of nothing were taken: {:?}", now.keys());
                Ok(())
            },
        },
    )?;
    gone(world, K).map(|()| Outcome::Passed)
}

/// What the machine had is to be deleted: until then it is there, and afterwards the snapshot's.
pub fn restore_snapshot_that_discards_killed_anywhere_restores(world: &mut World) -> Result<Outcome> {
    with_snapshots(world, &["a", "b"])?;
    let (saved, was) = (Saved::of(world, K)?, shown(world)?);
    at_every_boundary(
        world,
        &Case {
            command: &["restore-snapshot", K, "a", "--discard", "--yes"],
            machine: K,
            ends: 0,
            prepare: &|world| saved.put_back(world),
            survived: &|world| {
                let now = shown(world)?;
                same(&now, &was, &["a", "b"])?;
                ensure!(now[NOW] == was[NOW] || now[NOW] == was["a"], "it is neither: {now:?}");
                Ok(())
            },
            completed: &|world| {
                let now = shown(world)?;
                same(&now, &was, &["a", "b"])?;
                ensure!(now[NOW] == was["a"], "it is not as `a` was: {now:?} instead of {was:?}");
                ensure!(now.len() == was.len(), "snapshots of nothing were taken: {:?}", now.keys());
                Ok(())
            },
        },
    )?;
    gone(world, K).map(|()| Outcome::Passed)
}

/// The machine runs; its guest goes down when nixvm that asked for it is no more.
pub fn restore_snapshot_killed_in_the_middle_of_the_shutdown_is_completed(
    world: &mut World,
) -> Result<Outcome> {
    with_snapshots(world, &["a"])?;
    running::make_unbootable(world, K)?;
    let (saved, was) = (Saved::of(world, K)?, shown(world)?);
    in_the_middle(
        world,
        &Case {
            command: &["restore-snapshot", K, "a", "--yes"],
            machine: K,
            ends: 0,
            prepare: &|world| {
                saved.put_back(world)?;
                world.nixvm(&["start", K])?.ok().map(drop)
            },
            survived: &|world| {
                same(&shown(world)?, &was, &["a", NOW])?;
                ensure!(host::state(K)? == "running", "{K} is {}", host::state(K)?);
                host::virsh(&["destroy", K]).map(drop)
            },
            completed: &|world| {
                ensure!(host::state(K)? == "running", "{K} was not started again");
                host::virsh(&["destroy", K])?;
                let now = shown(world)?;
                same(&now, &was, &["a"])?;
                ensure!(now["before-a"] == was[NOW], "what was there is lost: {now:?} instead of {was:?}");
                Ok(())
            },
        },
        &[running::shutdown(world)],
    )?;
    gone(world, K).map(|()| Outcome::Passed)
}

pub fn delete_snapshot_killed_anywhere_loses_nothing(world: &mut World) -> Result<Outcome> {
    with_snapshots(world, &["a", "b", "c"])?;
    let (saved, expected) = (Saved::of(world, K)?, shown(world)?);
    // In the middle, the layer above is another snapshot's; the newest one, it is the one in use.
    for (name, runs, kept) in
        [("b", false, &["a", "c", NOW][..]), ("b", true, &["a", "c", NOW]), ("c", true, &["a", "b", NOW])]
    {
        at_every_boundary(
            world,
            &Case {
                command: &["delete-snapshot", K, name, "--yes"],
                machine: K,
                ends: 0,
                prepare: &|world| {
                    saved.put_back(world)?;
                    set_running(world, runs)
                },
                survived: &|world| {
                    let now = shown(world)?;
                    same(&now, &expected, kept)?;
                    now.get(name).map_or(Ok(()), |_| same(&now, &expected, &[name]))
                },
                completed: &|world| {
                    let now = shown(world)?;
                    same(&now, &expected, kept)?;
                    ensure!(now.len() == kept.len(), "there are {:?}", now.keys());
                    let left = host::volumes_of(&world.pool, K)?;
                    let layers = left.iter().filter(|volume| volume.contains(".data-")).count();
                    ensure!(layers == kept.len(), "{layers} layers for {} states: {left:?}", kept.len());
                    let nvrams = left.iter().filter(|volume| volume.contains(".nvram-")).count();
                    ensure!(nvrams <= 2, "too many copies of firmware variables: {left:?}");
                    in_one_place(world)
                },
            },
        )?;
    }
    gone(world, K).map(|()| Outcome::Passed)
}

pub fn delete_snapshot_killed_in_the_middle_of_a_merge_loses_nothing(world: &mut World) -> Result<Outcome> {
    roomy(world, K, "mine")?;
    world.nixvm(&["snapshot", K, "a"])?.ok()?;
    fill(world, K, 200)?;
    let in_use = Saved::of(world, K)?;
    for (runs, above) in [(false, &[NOW][..]), (true, &[NOW]), (false, &["b", NOW]), (true, &["b", NOW])] {
        in_use.put_back(world)?;
        if above.len() > 1 {
            world.nixvm(&["snapshot", K, "b"])?.ok()?;
            scribble(world, 3)?;
        }
        let (saved, expected) = (Saved::of(world, K)?, shown(world)?);
        in_the_middle(
            world,
            &Case {
                command: &["delete-snapshot", K, "a", "--yes"],
                machine: K,
                ends: 0,
                prepare: &|world| {
                    saved.put_back(world)?;
                    set_running(world, runs)
                },
                survived: &|world| {
                    // Below what is in use QEMU goes on alone; what it writes to is whole when it is done.
                    if runs && above.len() > 1 {
                        let whole = || Ok(shown(world).and_then(|now| same(&now, &expected, above)).ok());
                        wait_for(Duration::from_secs(60), whole)?.context("a snapshot stays changed")?;
                    }
                    let now = shown(world)?;
                    ensure!(!now.contains_key("a"), "`a` is listed, and half of another layer is in it");
                    same(&now, &expected, above)
                },
                completed: &|world| {
                    let now = shown(world)?;
                    same(&now, &expected, above)?;
                    let left = host::volumes_of(&world.pool, K)?;
                    let layers = left.iter().filter(|volume| volume.contains(".data-")).count();
                    ensure!(layers == above.len(), "{layers} layers for {above:?}: {left:?}");
                    in_one_place(world)
                },
            },
            &[middle::grows(world, "merge", &format!("{K}.data-1.qcow2"))],
        )?;
    }
    gone(world, K).map(|()| Outcome::Passed)
}

/// QEMU takes a layer out of the chain a moment before the one below it is whole on the disk: here it dies then.
pub fn a_merge_that_died_with_its_host_is_undone(world: &mut World) -> Result<Outcome> {
    roomy(world, K, "mine")?;
    world.nixvm(&["snapshot", K, "a"])?.ok()?;
    fill(world, K, 200)?;
    world.nixvm(&["snapshot", K, "b"])?.ok()?;
    scribble(world, 3)?;
    let (saved, expected) = (Saved::of(world, K)?, shown(world)?);
    let delete = ["delete-snapshot", K, "a", "--yes"];
    for starts in [false, true] {
        saved.put_back(world)?;
        let merge = middle::grows(world, "merge", &format!("{K}.data-1.qcow2"));
        killed_when(world, &delete, &merge.reached)?;
        let off = || Ok((host::state(K)? == "shut off").then_some(()));
        wait_for(Duration::from_secs(30), off)?.context("QEMU outlived nixvm")?;
        // The last thing that QEMU did.
        root(
            "qemu-img",
            &["rebase", "-u", "-F", "qcow2", "-b", &format!("{K}.data-1.qcow2"), &data::top(world, K)?],
        )?;
        ensure!(same(&shown(world)?, &expected, &[NOW]).is_err(), "half of a layer shows all of it");
        if starts {
            running::suspended(world, K)?;
        } else {
            world.nixvm(&delete)?.ok()?;
        }
        same(&shown(world)?, &expected, &["b", NOW])?;
    }
    gone(world, K).map(|()| Outcome::Passed)
}

/// Sees to it that the machine is there and off, with one change before each snapshot and one after the last.
fn with_snapshots(world: &World, names: &[&str]) -> Result<()> {
    fresh(world, K, "mine")?;
    for (value, name) in (1..).zip(names) {
        scribble(world, value)?;
        world.nixvm(&["snapshot", K, name])?.ok()?;
    }
    scribble(world, 99)
}

/// Writes `value` over a part of the machine's disk that overlaps with that of the value before.
fn scribble(world: &World, value: u8) -> Result<()> {
    let command = format!("write -P {value} {}k 96k", 40_000 + 64 * u32::from(value % 16));
    root("qemu-io", &["-f", "qcow2", "-c", &command, &data::top(world, K)?]).map(drop)
}

fn set_running(world: &World, runs: bool) -> Result<()> {
    if runs { running::suspended(world, K) } else { Ok(()) }
}

/// Returns the checksum of what each snapshot shows, and of what the machine does.
fn shown(world: &World) -> Result<Shown> {
    let listed = world.nixvm(&["snapshots", K, "--json"])?.ok()?;
    let json: serde_json::Value = serde_json::from_str(&listed.stdout)?;
    let mut shown = Shown::new();
    for snapshot in json["snapshots"].as_array().context("no list")? {
        let [name, volume] = ["name", "volume"].map(|key| snapshot[key].as_str().unwrap_or_default());
        shown.insert(name.to_owned(), data::digest(world, &host::volume_path(&world.pool, volume)?)?);
    }
    shown.insert(NOW.to_owned(), data::digest(world, &data::top(world, K)?)?);
    Ok(shown)
}

fn all_show(world: &World, digest: &str) -> Result<()> {
    let shown = shown(world)?;
    ensure!(shown.values().all(|shown| shown == digest), "{shown:?} instead of {digest}");
    Ok(())
}

fn same(now: &Shown, was: &Shown, names: &[&str]) -> Result<()> {
    for name in names {
        ensure!(now.get(*name) == was.get(*name), "`{name}` was lost or changed: {now:?} instead of {was:?}");
    }
    Ok(())
}

/// Checks that what runs writes where the next start will look.
fn in_one_place(world: &World) -> Result<()> {
    let live = host::virsh(&["dumpxml", K])?.stdout;
    let top = data::top(world, K)?;
    let name = top.rsplit('/').next().unwrap_or_default();
    let disk = live.split("<disk ").find(|disk| disk.contains("<serial>nixvm-data</serial>"));
    let source = disk.and_then(|disk| disk.lines().find(|line| line.contains("<source ")));
    ensure!(source.is_some_and(|source| source.contains(name)), "{source:?} runs, {name} is defined");
    Ok(())
}
