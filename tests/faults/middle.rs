//! Long steps, seen from outside: a build that goes on, a file of the pool that grows.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::host;
use crate::process::root;
use crate::world::World;

use super::kill::Middle;

/// Bytes of a file that is on its way: enough to be sure that its writer is at work.
const SOME: u64 = 4 << 20;

/// Seconds that a build takes which is to be killed, no number that anybody else would ask for.
const BUILD_SECONDS: &str = "2.718281";

/// Declares a system that no earlier run has built, which takes seconds, and whose boot disk has a part of its own that
/// is worth a copy.
pub fn declare_slow_build(world: &World, machine: &str) -> Result<()> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let text = format!(
        "{{ pkgs, ... }}: {{ environment.etc.\"e2e-slow\".source = pkgs.runCommand \"e2e-slow\" {{ }} \
         \"sleep {BUILD_SECONDS}; : {} {}; head -c 24M /dev/urandom > $out\"; }}\n",
        world.pool,
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    host::write_private(&world.machine_dir(machine).join("extra.nix"), &text)
}

/// Returns the middles of what brings such a build into the pool, the first of the profile: its own, that of the base
/// image's upload and of the copy that libvirt makes of what was uploaded, and that of the boot disk's upload.
pub fn images(world: &World, machine: &str, boot: &str) -> [Middle; 4] {
    [
        Middle { of: "build", begun: false, reached: Box::new(is_building) },
        grows(world, "upload the base image", "nixvm-base-*.part"),
        grows(world, "have libvirt copy the base image", "nixvm-base-*.qcow2"),
        grows(world, "upload the boot disk", &format!("{machine}.{boot}.qcow2.*.part")),
    ]
}

/// Returns the moment from which on files of the pool grow whose names are like that.
pub fn grows(world: &World, of: &'static str, pattern: &str) -> Middle {
    let (before, folder, pattern) =
        (Cell::new(None), world.pool_folder.display().to_string(), pattern.to_owned());
    let reached = move || {
        let now = allocated(&folder, &pattern)?;
        let before = before.replace(before.get().or(Some(now)));
        Ok(before.is_some_and(|before| now >= before + SOME))
    };
    Middle { of, begun: true, reached: Box::new(reached) }
}

/// Takes the base images out of the pool, as if none of their profiles had been used yet.
pub fn without_base(world: &World) -> Result<()> {
    let volumes = if host::has_pool(&world.pool)? { host::volumes(&world.pool)? } else { Vec::new() };
    for volume in volumes.iter().filter(|volume| volume.starts_with("nixvm-base-")) {
        host::virsh(&["vol-delete", "--pool", &world.pool, volume])?;
    }
    Ok(())
}

/// Checks that a machine's images are in the pool byte for byte as they were built.
pub fn as_built(world: &World, machine: &str, boot: &str) -> Result<()> {
    let link = world.workspace.join(format!("output/build/vm-{machine}"));
    let link = link.to_str().context("a path that is no UTF-8")?;
    let volumes = host::volumes(&world.pool)?;
    let base = volumes.iter().find(|name| name.starts_with("nixvm-base-") && name.ends_with(".qcow2"));
    let base = host::volume_path(&world.pool, base.context("there is no base")?)?;
    root("cmp", &[&format!("{link}/base.qcow2"), &base])?;
    root("cmp", &[&format!("{link}/disk.qcow2"), &host::volume(&world.pool, machine, boot)?]).map(drop)
}

/// Returns how many bytes the files of that folder take whose names are like that.
fn allocated(folder: &str, pattern: &str) -> Result<u64> {
    let blocks = blocks(folder)?.into_iter().filter(|(name, _)| is_like(name, pattern));
    Ok(blocks.map(|(_, blocks)| blocks * 512).sum())
}

/// Returns the files of a folder and how many blocks of 512 bytes each takes (stat(2)); what is deleted meanwhile takes none.
fn blocks(folder: &str) -> Result<Vec<(String, u64)>> {
    if rustix::process::geteuid().is_root() {
        // A merge is over in less time than it takes to start a few programs.
        let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        let blocks = |entry: &fs::DirEntry| entry.metadata().map_or(0, |metadata| metadata.blocks());
        return Ok(entries
            .map(|entry| (entry.file_name().to_string_lossy().into(), blocks(&entry)))
            .collect());
    }
    let script = r#"find "$1" -printf '%b %f\n' 2> /dev/null || true"#;
    let listed = root("sh", &["-c", script, "sh", folder])?;
    let lines = listed.stdout.lines().filter_map(|line| line.split_once(' '));
    Ok(lines.filter_map(|(blocks, name)| Some((name.to_owned(), blocks.parse().ok()?))).collect())
}

/// Returns whether a name is the pattern, in which a `*` stands for anything.
fn is_like(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((begin, end)) => name.strip_prefix(begin).is_some_and(|rest| rest.ends_with(end)),
    }
}

fn is_building() -> Result<bool> {
    let processes = fs::read_dir("/proc")?.filter_map(Result::ok);
    let mut commands = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    Ok(commands.any(|command| command.ends_with(format!("sleep\0{BUILD_SECONDS}\0").as_bytes())))
}
