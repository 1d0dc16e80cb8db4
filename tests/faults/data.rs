//! The data of a machine that is off, written and read from outside by e2fsprogs and qemu-img.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::host;
use crate::process::{as_root, root, run};
use crate::world::World;

/// Writes a file into the machine's data disk, which lies on no other yet.
pub fn write(world: &World, machine: &str, text: &str) -> Result<()> {
    let (raw, file) = (world.dir.join("write.raw"), world.dir.join("marker"));
    let volume = top(world, machine)?;
    fs::write(&file, text)?;
    root("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", &volume, path(&raw)?])?;
    root("debugfs", &["-w", "-R", &format!("write {} marker", path(&file)?), path(&raw)?])?;
    // Into the file that is there, which keeps its owner and mode.
    root("qemu-img", &["convert", "-n", "-f", "raw", "-O", "qcow2", path(&raw)?, &volume])?;
    root("rm", &["-f", path(&raw)?])?;
    ensure!(read(world, machine)? == text, "the marker could not be written");
    Ok(())
}

/// Returns what the file holds that [`write`] wrote, as the machine would find it at its next start.
pub fn read(world: &World, machine: &str) -> Result<String> {
    read_volume(world, &top(world, machine)?)
}

/// Returns what the file holds in the data disk whose top is the file at `volume`.
pub fn read_volume(world: &World, volume: &str) -> Result<String> {
    let raw = world.dir.join("read.raw");
    root("qemu-img", &["convert", "-U", "-f", "qcow2", "-O", "raw", volume, path(&raw)?])?;
    // A guest that was killed leaves a journal, and without it debugfs may not even open the file system. Exit code 1
    // says that something was mended.
    let checked = run(as_root("e2fsck").args(["-fy", path(&raw)?]), b"", Duration::from_secs(300))?;
    ensure!(checked.code <= 1, "the file system of {volume} is broken:\n{checked}");
    let said = root("debugfs", &["-R", "cat marker", path(&raw)?])?;
    root("rm", &["-f", path(&raw)?])?;
    Ok(said.stdout)
}

/// Returns the checksum of the whole disk that a guest would see whose top is the file at `volume`.
///
/// There are hundreds of these, and SHA-256 would take ten times as long to see what no attacker made.
pub fn digest(world: &World, volume: &str) -> Result<String> {
    let raw = world.dir.join("digest.raw");
    root("qemu-img", &["convert", "-U", "-f", "qcow2", "-O", "raw", volume, path(&raw)?])?;
    let digest = root("cksum", &[path(&raw)?])?.stdout;
    root("rm", &["-f", path(&raw)?])?;
    Ok(digest.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Returns the path of the image that the domain's definition has as its data disk.
pub fn top(world: &World, machine: &str) -> Result<String> {
    let xml = host::defined(machine)?;
    let disk = xml.split("<disk ").find(|disk| disk.contains("<serial>nixvm-data</serial>"));
    let disk = disk.with_context(|| format!("{machine} has no data disk"))?;
    match host::attribute(disk, "source", "file") {
        Some(file) => Ok(file.to_owned()),
        None => {
            let volume = host::attribute(disk, "source", "volume").context("the data disk has no source")?;
            host::volume_path(&world.pool, volume)
        }
    }
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no UTF-8")
}
