//! Backups: a half archive never has an archive's name, and until the restored machine is defined its data is the old.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::Outcome;
use crate::host;
use crate::world::World;

use super::data;
use super::kill::{Case, Middle, at_every_boundary, begun, in_the_middle};
use super::making::{K, fill, fresh, gone, roomy};
use super::middle;
use super::running;
use super::saved::Saved;

/// Of a machine whose data is archived from where it is, and of one whose layers are made one in a copy first.
pub fn backup_killed_anywhere_leaves_no_half_archive(world: &mut World) -> Result<Outcome> {
    for (layers, steps) in [(1, 2), (2, 4)] {
        fresh(world, K, "mine")?;
        if layers > 1 {
            world.nixvm(&["snapshot", K])?.ok()?;
        }
        let points = at_every_boundary(
            world,
            &Case {
                command: &["backup", K],
                machine: K,
                ends: 0,
                prepare: &|_| Ok(()),
                survived: &|world| {
                    newest_is_whole(world)?;
                    holds(world, &["mine"])
                },
                completed: &|world| {
                    ensure!(newest_is_whole(world)?, "there is no archive");
                    no_copy(world)?;
                    holds(world, &["mine"])
                },
            },
        )?;
        ensure!(points == steps, "{layers} layers were backed up in {} steps", points - 1);
    }
    gone(world, K).map(|()| Outcome::Passed)
}

pub fn export_killed_anywhere_leaves_no_half_folder(world: &mut World) -> Result<Outcome> {
    fresh(world, K, "mine")?;
    let exported = world.workspace.join("output/exports").join(K);
    let points = at_every_boundary(
        world,
        &Case {
            command: &["export", K],
            machine: K,
            ends: 0,
            prepare: &|_| match fs::remove_dir_all(&exported) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            },
            survived: &|world| holds(world, &["mine"]),
            completed: &|world| {
                let mut files: Vec<_> = fs::read_dir(&exported)?
                    .map(|file| Ok(file?.file_name().to_string_lossy().into_owned()))
                    .collect::<Result<_>>()?;
                files.sort();
                ensure!(
                    files == ["boot.sh", "data.qcow2", "identity.raw", "system.qcow2"],
                    "there are {files:?}"
                );
                let beside = fs::read_dir(exported.parent().context("no folder above")?)?.count();
                ensure!(beside == 1, "a half export was left beside the whole one");
                holds(world, &["mine"])
            },
        },
    );
    gone(world, K)?;
    points.map(|_| Outcome::Passed)
}

/// nixvm's lock keeps nixvm out, and nobody else.
pub fn a_machine_that_is_started_under_a_backup_is_no_archive(world: &mut World) -> Result<Outcome> {
    roomy(world, K, "mine")?;
    fill(world, K, 96)?;
    without_archives(world)?;
    let child = begun(world, &["backup", K], &*is_written(world))?;
    let process = Pid::from_child(&child);
    kill_process(process, Signal::STOP)?;
    let started = host::virsh(&["start", K]).and_then(|_| host::virsh(&["destroy", K]));
    kill_process(process, Signal::CONT)?;
    let ended = child.wait_with_output()?;
    started?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.code() == Some(1), "it ended with {}:\n{said}", ended.status);
    for words in ["was written while it was archived", "cause: it was written while it was read", "hint: "] {
        ensure!(said.contains(words), "no `{words}` in\n{said}");
    }
    let left: Vec<_> = fs::read_dir(folder(world))?.filter_map(Result::ok).map(|e| e.file_name()).collect();
    ensure!(left.is_empty(), "it left {left:?}");
    world.nixvm(&["backup", K])?.ok()?;
    ensure!(newest_is_whole(world)?, "there is no archive");
    gone(world, K).map(|()| Outcome::Passed)
}

pub fn incremental_backup_killed_anywhere_leaves_one_checkpoint(world: &mut World) -> Result<Outcome> {
    fresh(world, K, "mine")?;
    let points = at_every_boundary(
        world,
        &Case {
            command: &["backup", K, "--incremental"],
            machine: K,
            ends: 0,
            prepare: &|_| Ok(()),
            survived: &|world| {
                newest_is_whole(world)?;
                holds(world, &["mine"])
            },
            completed: &|world| {
                ensure!(newest_is_whole(world)?, "there is no archive");
                let checkpoints = host::virsh(&["checkpoint-list", K, "--name"])?;
                let count = checkpoints.stdout.split_whitespace().count();
                ensure!(count == 1, "{K} has {count} checkpoints: {checkpoints}");
                ensure!(host::state(K)? == "shut off", "{K} is {}", host::state(K)?);
                no_copy(world)?;
                holds(world, &["mine"])
            },
        },
    );
    gone(world, K)?;
    points.map(|_| Outcome::Passed)
}

pub fn restore_backup_killed_anywhere_loses_neither_data(world: &mut World) -> Result<Outcome> {
    let file = archive_of(world, "mine")?;
    let file = file.to_str().context("a path that is no UTF-8")?;
    fresh(world, K, "later")?;
    let saved = Saved::of(world, K)?;
    let points = at_every_boundary(
        world,
        &Case {
            command: &["restore-backup", K, file, "--yes"],
            machine: K,
            ends: 0,
            prepare: &|world| saved.put_back(world),
            survived: &|world| holds(world, &["later", "mine"]),
            completed: &|world| {
                holds(world, &["mine"])?;
                only(world, "the old data was not deleted")
            },
        },
    );
    gone(world, K)?;
    points.map(|_| Outcome::Passed)
}

pub fn restore_backup_killed_anywhere_makes_the_machine_again(world: &mut World) -> Result<Outcome> {
    let file = archive_of(world, "mine")?;
    let file = file.to_str().context("a path that is no UTF-8")?;
    let points = at_every_boundary(
        world,
        &Case {
            command: &["restore-backup", K, file],
            machine: K,
            ends: 0,
            prepare: &|world| gone(world, K),
            survived: &|world| {
                // Before the last step there is no machine that could run on half of its disks.
                if host::definition(K)?.is_some() { holds(world, &["mine"]) } else { Ok(()) }
            },
            completed: &|world| {
                holds(world, &["mine"])?;
                ensure!(world.machine_dir(K).exists(), "the files were not restored");
                only(world, "what a killed run made is left")
            },
        },
    );
    gone(world, K)?;
    points.map(|_| Outcome::Passed)
}

pub fn backup_killed_in_the_middle_of_a_step_leaves_no_half_archive(world: &mut World) -> Result<Outcome> {
    roomy(world, K, "mine")?;
    fill(world, K, 96)?;
    for runs in [false, true] {
        if runs {
            running::suspended(world, K)?;
        }
        let disk = data::digest(world, &data::top(world, K)?)?;
        let steps = [
            middle::grows(world, "copy the data", &format!("{K}.backup.qcow2")),
            Middle { of: "write the archive", begun: true, reached: is_written(world) },
        ];
        in_the_middle(
            world,
            &Case {
                command: &["backup", K],
                machine: K,
                ends: 0,
                prepare: &without_archives,
                survived: &|world| {
                    ensure!(archives(world)?.is_empty(), "half an archive has an archive's name");
                    ensure!((host::state(K)? == "paused") == runs, "{K} is {}", host::state(K)?);
                    host::unchanged("a backup", &disk, &data::digest(world, &data::top(world, K)?)?)
                },
                completed: &|world| {
                    ensure!(newest_is_whole(world)?, "there is no archive");
                    no_copy(world)?;
                    let left = fs::read_dir(folder(world))?.count();
                    ensure!(left == 1, "beside the archive there are {} files", left - 1);
                    Ok(())
                },
            },
            // What is off is archived from where it is; the copy once made, both go the same way.
            if runs { &steps[..1] } else { &steps[1..] },
        )?;
    }
    gone(world, K).map(|()| Outcome::Passed)
}

pub fn restore_backup_killed_in_the_middle_of_the_upload_loses_neither_data(
    world: &mut World,
) -> Result<Outcome> {
    roomy(world, K, "mine")?;
    fill(world, K, 96)?;
    let disk = data::digest(world, &data::top(world, K)?)?;
    without_archives(world)?;
    world.nixvm(&["backup", K])?.ok()?;
    let file = kept(world)?;
    fresh(world, K, "later")?;
    let saved = Saved::of(world, K)?;
    in_the_middle(
        world,
        &Case {
            command: &["restore-backup", K, file.to_str().context("a path that is no UTF-8")?, "--yes"],
            machine: K,
            ends: 0,
            prepare: &|world| saved.put_back(world),
            survived: &|world| holds(world, &["later"]),
            completed: &|world| {
                only(world, "the old data was not deleted")?;
                host::unchanged("a restore", &disk, &data::digest(world, &data::top(world, K)?)?)
            },
        },
        &[
            middle::grows(world, "upload the data", &format!("{K}.data-2.*.part")),
            middle::grows(world, "have libvirt copy the data", &format!("{K}.data-2.qcow2")),
        ],
    )?;
    gone(world, K).map(|()| Outcome::Passed)
}

/// The machine runs with nobody in it who could shut it down; nixvm then pulls the plug.
pub fn restore_backup_over_a_running_machine_killed_anywhere_loses_neither_data(
    world: &mut World,
) -> Result<Outcome> {
    let file = archive_of(world, "mine")?;
    let file = file.to_str().context("a path that is no UTF-8")?;
    fresh(world, K, "later")?;
    let saved = Saved::of(world, K)?;
    at_every_boundary(
        world,
        &Case {
            command: &["restore-backup", K, file, "--yes", "--timeout", "0"],
            machine: K,
            ends: 0,
            prepare: &|world| {
                saved.put_back(world)?;
                running::suspended(world, K)
            },
            survived: &|world| {
                let state = host::state(K)?;
                // Suspended it is as it was; started again it has the old data or the restored, as it is defined by then.
                ensure!(["paused", "running", "shut off"].contains(&state.as_str()), "{K} is {state}");
                holds(world, if state == "paused" { &["later"] } else { &["later", "mine"] })
            },
            completed: &|world| {
                holds(world, &["mine"])?;
                let volumes = host::volumes_of(&world.pool, K)?;
                let layers = volumes.iter().filter(|name| name.contains(".data-")).count();
                ensure!(layers == 1, "the old data was not deleted: {volumes:?}");
                ensure!(host::state(K)? == "running", "{K} was not started again");
                Ok(())
            },
        },
    )?;
    gone(world, K).map(|()| Outcome::Passed)
}

/// What QEMU noted of the disk's changes, it noted in the layer that was left.
pub fn an_incremental_backup_after_a_restored_snapshot_is_a_full_one(world: &mut World) -> Result<Outcome> {
    fresh(world, K, "mine")?;
    without_archives(world)?;
    let backup = |world: &World| -> Result<(String, serde_json::Value)> {
        // Two archives of one second would have one name.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let said = world.nixvm(&["backup", K, "--incremental", "--json"])?.ok()?;
        let json: serde_json::Value = serde_json::from_str(&said.stdout)?;
        Ok((said.stderr, json[0]["parent"].clone()))
    };
    for what in ["taken", "restored"] {
        backup(world)?;
        let (said, parent) = backup(world)?;
        ensure!(!parent.is_null(), "before a snapshot was {what}, it is no increment:\n{said}");
        let verb = if what == "taken" { "snapshot" } else { "restore-snapshot" };
        let arguments = [verb, K, "a", "--yes"];
        let told = world.nixvm(&arguments[..if what == "taken" { 3 } else { 4 }])?.ok()?;
        ensure!(told.stderr.contains("the next incremental backup will be a full one"), "not told:\n{told}");
        let (said, parent) = backup(world)?;
        ensure!(parent.is_null(), "after a snapshot was {what}, it adds to {parent}:\n{said}");
        ensure!(said.contains("this is a full one"), "after a snapshot was {what}, not told:\n{said}");
        ensure!(newest_is_whole(world)?, "there is no archive");
    }
    let newest = kept(world)?;
    let file = newest.to_str().context("a path that is no UTF-8")?;
    fresh(world, K, "later")?;
    world.nixvm(&["restore-backup", K, file, "--yes"])?.ok()?;
    holds(world, &["mine"])?;
    gone(world, K).map(|()| Outcome::Passed)
}

/// Returns the question whether an archive is on its way.
fn is_written(world: &World) -> Box<dyn Fn() -> Result<bool>> {
    let folder = folder(world);
    Box::new(move || {
        let mut entries = fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
        Ok(entries.any(|entry| entry.file_name().to_string_lossy().ends_with(".part")))
    })
}

fn folder(world: &World) -> PathBuf {
    world.workspace.join("output/backups")
}

/// Removes what other rounds made.
fn without_archives(world: &World) -> Result<()> {
    match fs::remove_dir_all(folder(world)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Makes an archive of the machine with that marker, and leaves neither machine nor other archives.
fn archive_of(world: &World, marker: &str) -> Result<PathBuf> {
    fresh(world, K, marker)?;
    world.nixvm(&["backup", K])?.ok()?;
    let file = kept(world)?;
    gone(world, K)?;
    Ok(file)
}

/// Moves the one archive to where no test looks for others, and where there is always room.
fn kept(world: &World) -> Result<PathBuf> {
    let archives = archives(world)?;
    let newest = archives.last().context("there is no archive")?;
    let kept = world.dir.join("kept.tar.zst");
    fs::copy(newest, &kept)?;
    fs::remove_file(newest)?;
    Ok(kept)
}

fn archives(world: &World) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder(world)).into_iter().flatten().filter_map(Result::ok);
    let mut archives: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    archives.retain(|path| path.to_string_lossy().ends_with(".tar.zst"));
    archives.sort();
    Ok(archives)
}

/// Verifies the newest archive with all that it adds to, and returns whether there is one.
fn newest_is_whole(world: &World) -> Result<bool> {
    let archives = archives(world)?;
    let Some(newest) = archives.last() else { return Ok(false) };
    world.nixvm(&["verify-backup", newest.to_str().context("a path that is no UTF-8")?])?.ok()?;
    Ok(true)
}

fn no_copy(world: &World) -> Result<()> {
    let volumes = host::volumes_of(&world.pool, K)?;
    ensure!(!volumes.iter().any(|name| name.contains("backup")), "the copy was left: {volumes:?}");
    Ok(())
}

fn holds(world: &World, markers: &[&str]) -> Result<()> {
    let found = data::read(world, K)?;
    ensure!(markers.contains(&found.as_str()), "the data has the marker {found:?}");
    Ok(())
}

/// Checks that the machine has one volume of each kind.
fn only(world: &World, otherwise: &str) -> Result<()> {
    let volumes = host::volumes_of(&world.pool, K)?;
    let count = |role: &str| volumes.iter().filter(|name| name.contains(role)).count();
    ensure!(count(".data-") == 1 && count(".boot-") == 1 && volumes.len() == 3, "{otherwise}: {volumes:?}");
    Ok(())
}
