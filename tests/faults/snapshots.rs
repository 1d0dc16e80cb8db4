//! Snapshots: whatever dies, each shows exactly what it froze, and what was written last is there.
//!
//! Told by checksums of whole disks as a guest would see them. A machine that runs is suspended at once, so that nothing
//! but these tests writes to its disk.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::data;
use crate::harness::Outcome;
use crate::host;
use crate::kill::{Case, at_every_boundary};
use crate::making::{K, fresh, gone};
use crate::process::root;
use crate::world::World;

/// What each snapshot, and the machine itself under the name of `NOW`, shows.
type Shown = BTreeMap<String, String>;
const NOW: &str = "";

pub fn snapshot_killed_anywhere_loses_nothing(world: &mut World) -> Result<Outcome> {
    for runs in [false, true] {
        let before = || shown(world);
        let expected = std::cell::RefCell::new(Shown::new());
        at_every_boundary(
            world,
            &Case {
                command: &["snapshot", K],
                machine: K,
                prepare: &|world| {
                    fresh(world, K, "mine")?;
                    scribble(world, 1)?;
                    set_running(world, runs)?;
                    expected.replace(before()?);
                    Ok(())
                },
                survived: &|world| all_show(world, &expected.borrow()[NOW]),
                completed: &|world| {
                    all_show(world, &expected.borrow()[NOW])?;
                    ensure!(shown(world)?.len() == 2, "not one snapshot, but {:?}", shown(world)?);
                    in_one_place(world)
                },
            },
        )?;
    }
    gone(world, K).map(|()| Outcome::Passed)
}

pub fn restore_snapshot_killed_anywhere_loses_nothing(world: &mut World) -> Result<Outcome> {
    let expected = std::cell::RefCell::new(Shown::new());
    at_every_boundary(
        world,
        &Case {
            command: &["restore-snapshot", K, "a", "--yes"],
            machine: K,
            prepare: &|world| {
                with_snapshots(world, &["a", "b"])?;
                expected.replace(shown(world)?);
                Ok(())
            },
            survived: &|world| {
                let (now, was) = (shown(world)?, expected.borrow());
                same(&now, &was, &["a", "b"])?;
                ensure!(
                    now[NOW] == was[NOW] || (now[NOW] == was["a"] && now["before-a"] == was[NOW]),
                    "what was there is lost: {now:?} instead of {was:?}"
                );
                Ok(())
            },
            completed: &|world| {
                let (now, was) = (shown(world)?, expected.borrow());
                same(&now, &was, &["a", "b"])?;
                ensure!(now[NOW] == was["a"], "it is not as `a` was: {now:?} instead of {was:?}");
                ensure!(now["before-a"] == was[NOW], "what was there is lost: {now:?} instead of {was:?}");
                Ok(())
            },
        },
    )?;
    gone(world, K).map(|()| Outcome::Passed)
}

pub fn delete_snapshot_killed_anywhere_loses_nothing(world: &mut World) -> Result<Outcome> {
    // In the middle, the layer above is another snapshot's; the newest one, it is the one in use.
    for (name, runs, kept) in
        [("b", false, &["a", "c", NOW][..]), ("b", true, &["a", "c", NOW]), ("c", true, &["a", "b", NOW])]
    {
        let expected = std::cell::RefCell::new(Shown::new());
        at_every_boundary(
            world,
            &Case {
                command: &["delete-snapshot", K, name, "--yes"],
                machine: K,
                prepare: &|world| {
                    with_snapshots(world, &["a", "b", "c"])?;
                    set_running(world, runs)?;
                    expected.replace(shown(world)?);
                    Ok(())
                },
                survived: &|world| {
                    let now = shown(world)?;
                    same(&now, &expected.borrow(), kept)?;
                    now.get(name).map_or(Ok(()), |_| same(&now, &expected.borrow(), &[name]))
                },
                completed: &|world| {
                    let now = shown(world)?;
                    same(&now, &expected.borrow(), kept)?;
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
    if runs {
        world.nixvm(&["start", K])?.ok()?;
        host::virsh(&["suspend", K])?;
    }
    Ok(())
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
