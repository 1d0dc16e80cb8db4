//! Backups: a half archive never has an archive's name, and until the restored machine is defined its data is the old.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::data;
use crate::harness::Outcome;
use crate::host;
use crate::kill::{Case, at_every_boundary};
use crate::making::{K, fresh, gone};
use crate::process::wait_for;
use crate::world::World;

/// Of a machine whose data is archived from where it is, and of one whose layers are made one in a copy first.
pub fn backup_killed_anywhere_leaves_no_half_archive(world: &mut World) -> Result<Outcome> {
    for layers in [1, 2] {
        fresh(world, K, "mine")?;
        if layers > 1 {
            world.nixvm(&["snapshot", K])?.ok()?;
        }
        let points = at_every_boundary(
            world,
            &Case {
                command: &["backup", K],
                machine: K,
                prepare: &|_| Ok(()),
                survived: &|world| {
                    all_whole(world)?;
                    holds(world, &["mine"])
                },
                completed: &|world| {
                    ensure!(all_whole(world)? > 0, "there is no archive");
                    no_copy(world)?;
                    holds(world, &["mine"])
                },
            },
        )?;
        ensure!(points == [2, 4][layers - 1], "{layers} layers were backed up in {} steps", points - 1);
    }
    gone(world, K)?;
    Ok(Outcome::Passed)
}

/// nixvm's lock keeps nixvm out, and nobody else.
pub fn a_machine_that_is_started_under_a_backup_is_no_archive(world: &mut World) -> Result<Outcome> {
    fresh(world, K, &noise())?;
    let folder = world.workspace.join("output/backups");
    if folder.exists() {
        // Those of other tests.
        fs::remove_dir_all(&folder)?;
    }
    let child = when(world, &["backup", K], &|| large_part(&folder))?;
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::STOP)?;
    let started = host::virsh(&["start", K]).and_then(|_| host::virsh(&["destroy", K]));
    rustix::process::kill_process(process, rustix::process::Signal::CONT)?;
    started?;
    let ended = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.code() == Some(1), "it ended with {}:\n{said}", ended.status);
    for words in ["was written while it was archived", "cause: it was written while it was read", "hint: "] {
        ensure!(said.contains(words), "no `{words}` in\n{said}");
    }
    let left: Vec<_> = fs::read_dir(&folder)?.filter_map(Result::ok).map(|entry| entry.file_name()).collect();
    ensure!(left.is_empty(), "it left {left:?}");
    world.nixvm(&["backup", K])?.ok()?;
    ensure!(all_whole(world)? == 1, "there is no archive");
    gone(world, K)?;
    Ok(Outcome::Passed)
}

pub fn incremental_backup_killed_anywhere_leaves_one_checkpoint(world: &mut World) -> Result<Outcome> {
    fresh(world, K, "mine")?;
    let points = at_every_boundary(
        world,
        &Case {
            command: &["backup", K, "--incremental"],
            machine: K,
            prepare: &|_| Ok(()),
            survived: &|world| {
                all_whole(world)?;
                holds(world, &["mine"])
            },
            completed: &|world| {
                ensure!(all_whole(world)? > 0, "there is no archive");
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
    let points = at_every_boundary(
        world,
        &Case {
            command: &["restore-backup", K, file, "--yes"],
            machine: K,
            prepare: &|world| fresh(world, K, "later"),
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

pub fn killed_while_bytes_flow_and_nothing_half_is_taken_for_whole(world: &mut World) -> Result<Outcome> {
    // Enough that there is a middle to be killed in.
    let text = host::virsh(&["--version"])?.stdout + &noise();
    fresh(world, K, &text)?;
    let folder = world.workspace.join("output/backups");
    if folder.exists() {
        // Those of other tests.
        fs::remove_dir_all(&folder)?;
    }
    killed_when(world, &["backup", K], &|| large_part(&folder))?;
    all_whole(world)?;
    world.nixvm(&["backup", K])?.ok()?;
    no_copy(world)?;
    ensure!(all_whole(world)? == 1, "the archive that was cut short has an archive's name");
    let left: Vec<_> = fs::read_dir(&folder)?.filter_map(Result::ok).map(|entry| entry.file_name()).collect();
    ensure!(left.len() == 1, "beside the archive there is {left:?}");
    ensure!(data::read(world, K)? == text, "the data is another");

    let file = kept(world)?;
    fresh(world, K, "later")?;
    let uploads = || -> Result<Option<()>> {
        let volumes = host::volumes_of(&world.pool, K)?;
        Ok(volumes.iter().any(|name| name.contains(".data-2.") && name.ends_with(".part")).then_some(()))
    };
    let command = ["restore-backup", K, file.to_str().context("a path that is no UTF-8")?, "--yes"];
    killed_when(world, &command, &uploads)?;
    holds(world, &["later"])?;
    world.nixvm(&command)?.ok()?;
    ensure!(data::read(world, K)? == text, "the restored data is another");
    gone(world, K)?;
    Ok(Outcome::Passed)
}

/// Returns text that compresses to no less than half, always the same.
fn noise() -> String {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut text = String::new();
    while text.len() < 24 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text += &format!("{state:016x}");
    }
    text
}

/// Returns whether an archive is being written in the folder, and some of it is there.
fn large_part(folder: &Path) -> Result<Option<()>> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let large = |entry: &fs::DirEntry| entry.metadata().is_ok_and(|metadata| metadata.len() > 1 << 20);
    let mut parts = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part"));
    Ok(parts.any(|entry| large(&entry)).then_some(()))
}

/// Begins a command and kills it from outside as soon as `reached` says so.
fn killed_when(world: &World, command: &[&str], reached: &dyn Fn() -> Result<Option<()>>) -> Result<()> {
    let mut child = when(world, command, reached)?;
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Begins a command and returns it as soon as `reached` says so.
fn when(world: &World, command: &[&str], reached: &dyn Fn() -> Result<Option<()>>) -> Result<Child> {
    let mut child = world.command(command).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let seen = wait_for(Duration::from_secs(120), || match child.try_wait()? {
        Some(status) => bail!("`nixvm {}` ended ({status}) too early", command.join(" ")),
        None => reached(),
    });
    match seen {
        Ok(Some(())) => return Ok(child),
        _ => drop((child.kill(), child.wait())),
    }
    seen?.with_context(|| format!("`nixvm {}` never came so far", command.join(" ")))?;
    Ok(child)
}

/// Makes an archive of the machine with that marker, and leaves neither machine nor other archives.
fn archive_of(world: &World, marker: &str) -> Result<PathBuf> {
    fresh(world, K, marker)?;
    world.nixvm(&["backup", K])?.ok()?;
    let file = kept(world)?;
    gone(world, K)?;
    Ok(file)
}

/// Moves the one archive to where no test looks for others.
fn kept(world: &World) -> Result<PathBuf> {
    let archives = archives(world)?;
    let newest = archives.last().context("there is no archive")?;
    let kept = world.dir.join("kept.tar.zst");
    fs::rename(newest, &kept)?;
    Ok(kept)
}

fn archives(world: &World) -> Result<Vec<PathBuf>> {
    let folder = world.workspace.join("output/backups");
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut archives: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    archives.retain(|path| path.to_string_lossy().ends_with(".tar.zst"));
    archives.sort();
    Ok(archives)
}

/// Verifies all archives, and returns how many there are.
fn all_whole(world: &World) -> Result<usize> {
    let archives = archives(world)?;
    for archive in &archives {
        world.nixvm(&["verify-backup", archive.to_str().context("a path that is no UTF-8")?])?.ok()?;
    }
    Ok(archives.len())
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
