//! Promise 7: a backup is consistent, taken while the machine runs, verified before anything is replaced, and restores
//! on another host from the archive alone.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::harness::{Outcome, tell};
use crate::host;
use crate::process::{Output, root, run};
use crate::world::World;
use crate::writer::{PAUSE, longest_gap};

/// The machine that is backed up, and one that is made of its archive.
const M: &str = "e2e-m";
const COPY: &str = "e2e-m-copy";

pub fn promise_7_a_backup_of_a_running_machine_restores_anywhere(world: &mut World) -> Result<Outcome> {
    let size = ["core", "1024", "2", "1G", "nat", "--from-agent"];
    world.nixvm(&[&["create", M], &size[..], &["--autostart", "--start", "--wait"]].concat())?.ok()?;
    world.adopt(M);
    let digest = written(world, "head -c 60000000 /dev/urandom > /var/lib/kept")?;

    // Taken while it runs and writes.
    let (idle, ()) = longest_gap(world, M, || Ok(()))?;
    let (busy, full) = longest_gap(world, M, || backup(world, &[]))?;
    tell!(
        "writer: {idle:.1} ms the longest gap without a backup, {busy:.1} ms during one, {} ms of it frozen ({} of {PAUSE} ms)",
        full.frozen_ms,
        host::against(busy, PAUSE)
    );
    ensure!(full.state == "frozen", "the guest's agent answers, and the data is {}", full.state);
    let archive = archived(&full.file)?;
    tell!(
        "full: {} of data, {} archived, in {:.1} s",
        host::mib(full.data),
        host::mib(full.bytes),
        full.seconds
    );
    ensure!(full.bytes < 100 << 20, "1 GiB with 60 MB in it takes {}", host::mib(full.bytes));
    ensure!(host::stat("%a", text(&full.file)?)? == "600", "the archive is open to others");
    world.nixvm(&["verify-backup", text(&full.file)?])?.ok()?;
    ensure!(archive.starts_with("manifest.json\nmachine/"), "the archive holds\n{archive}");

    // What changed since, alone; twice, for a chain.
    let first = backup(world, &["--incremental"])?;
    ensure!(first.parent.is_none(), "the first of a series cannot add to another: {first:?}");
    let changed = written(world, "head -c 10485760 /dev/urandom > /var/lib/changed")?;
    let second = backup(world, &["--incremental"])?;
    tell!("10 MiB changed: {} archived, in {:.1} s", host::mib(second.bytes), second.seconds);
    ensure!(second.parent.is_some() && second.bytes < 20 << 20, "{second:?}");
    let emptied =
        written(world, "dd if=/dev/zero of=/var/lib/kept bs=1M count=4 conv=notrunc,fsync status=none")?;
    let third = backup(world, &["--incremental"])?;
    tell!("4 MiB overwritten with zeros: {} archived", host::mib(third.bytes));
    let checkpoints = host::virsh(&["checkpoint-list", M, "--name"])?;
    ensure!(checkpoints.stdout.split_whitespace().count() == 1, "{M} has the checkpoints {checkpoints}");

    bad_archives_change_nothing(world, &full.file)?;

    // Back to the first, and the old data is gone only then.
    written(world, "rm /var/lib/kept; echo later > /var/lib/later")?;
    let restored = world.nixvm(&["restore-backup", M, text(&full.file)?, "--yes", "--start"])?.ok()?;
    tell!("restored over a running machine in {:.1} s", restored.seconds);
    starts_with_host(M)?;
    world.nixvm(&["wait", M])?.ok()?;
    world.nixvm(&["wait", M, "--for", "healthy"])?.ok()?;
    ensure!(sum(world, M, "/var/lib/kept")? == digest, "the data is another");
    world.admin(M, &["test", "!", "-e", "/var/lib/later"])?.ok()?;
    let layers = host::volumes_of(&world.pool, M)?;
    ensure!(layers.iter().filter(|name| name.contains(".data-")).count() == 1, "left: {layers:?}");

    elsewhere(world, &third.file, &changed, &emptied)?;
    Ok(Outcome::Passed)
}

fn starts_with_host(machine: &str) -> Result<()> {
    let listed = host::virsh(&["list", "--all", "--autostart", "--name"])?;
    ensure!(listed.stdout.lines().any(|name| name == machine), "only these start with the host: {listed}");
    Ok(())
}

/// On a host that has never seen the machine: another workspace, another pool, the archives alone. And as a new machine.
fn elsewhere(world: &mut World, newest: &Path, changed: &str, emptied: &str) -> Result<()> {
    let folder = world.dir.join("archives");
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    for entry in fs::read_dir(world.workspace.join("output/backups"))? {
        let entry = entry?;
        fs::rename(entry.path(), folder.join(entry.file_name()))?;
    }
    let file = folder.join(newest.file_name().context("an archive without a name")?);
    let identity = world.file(M, "machine-id")?;
    world.nixvm(&["purge", M, "--yes"])?.ok()?;

    let other = world.dir.join("elsewhere");
    root("cp", &["-R", text(&world.workspace)?, text(&other)?])?;
    root("rm", &["-rf", text(&other.join("output"))?, text(&other.join("machines"))?])?;
    let pool = format!("{}-other", world.pool);
    let there = |arguments: &[&str]| -> Result<Output> {
        let mut command = world.command(&[&["-C", text(&other)?, "--pool", &pool], arguments].concat());
        run(&mut command, b"", Duration::from_secs(1800))
    };
    let refused = there(&["restore-backup", M, text(&file)?, "--yes"])?;
    refused.refused(
        1,
        &["was not made in this workspace", "admin_authorized_keys: 1 key(s)", "--trust-archive"],
    )?;
    ensure!(!other.join("machines").join(M).exists(), "it was restored although nobody trusts it");
    let restored = there(&["restore-backup", M, text(&file)?, "--trust-archive", "--start"])?.ok()?;
    tell!("restored from the archives alone, of 3, in {:.1} s", restored.seconds);
    there(&["start", M, "--wait"])?.ok()?;
    let here = |path: &str| there(&["ssh", M, "--", "sudo", "sha256sum", path]).and_then(Output::ok);
    ensure!(here("/var/lib/changed")?.stdout.split(' ').next() == Some(changed), "what changed is not there");
    ensure!(
        here("/var/lib/kept")?.stdout.split(' ').next() == Some(emptied),
        "what was overwritten with zeros shows what was below"
    );
    let now = fs::read_to_string(other.join("machines").join(M).join("machine-id"))?;
    ensure!(now == identity, "it is another machine: {now} instead of {identity}");
    let copied = there(&["restore-backup", M, text(&file)?, "--as", COPY])?.ok()?;
    tell!("restored as a new machine in {:.1} s", copied.seconds);
    [M, COPY].into_iter().try_for_each(starts_with_host)?;
    let files =
        |machine: &str, name: &str| fs::read_to_string(other.join("machines").join(machine).join(name));
    for name in ["machine-id", "uuid", "mac-address", "ssh_host_ed25519_key", "hostname"] {
        ensure!(files(M, name)? != files(COPY, name)?, "{COPY} has the {name} of {M}");
    }
    ensure!(files(M, "admin_authorized_keys")? == files(COPY, "admin_authorized_keys")?, "it has other keys");
    // One that answers is not waited for any longer.
    host::write_private(&other.join("machines").join(COPY).join("after"), &format!("{M}\n"))?;
    let started = there(&["start", COPY, "--wait"])?.ok()?;
    let answered = started.stderr.find(&format!("{M} answers ssh at"));
    let order = answered.zip(started.stderr.find(&format!("Started {COPY}")));
    ensure!(order.is_some_and(|(other, copy)| other < copy), "{COPY} did not start after {M}:\n{started}");
    there(&["stop", M])?.ok()?;
    there(&["wait", M, "--for", "off", "--timeout", "0"])?.ok()?;
    let digest = there(&["ssh", COPY, "--", "sudo", "sha256sum", "/var/lib/changed"])?.ok()?;
    ensure!(digest.stdout.split(' ').next() == Some(changed), "the copy's data is another:\n{digest}");
    let hostname = there(&["ssh", COPY, "--", "hostname"])?.ok()?;
    ensure!(hostname.text() == COPY, "the copy calls itself {}", hostname.text());
    for machine in [M, COPY] {
        there(&["purge", machine, "--yes"])?.ok()?;
    }
    world.forget(M);
    root("virsh", &["-q", "pool-destroy", &pool])?;
    root("virsh", &["-q", "pool-undefine", &pool])?;
    Ok(())
}

/// A flipped bit anywhere in a chain: the machine runs on as it was, and no machine is offered another's archives.
fn bad_archives_change_nothing(world: &World, full: &Path) -> Result<()> {
    let good = fs::read(full)?;
    let facts = |world: &World| -> Result<String> {
        let boot = world.admin(M, &["cat", "/proc/sys/kernel/random/boot_id"])?.ok()?.stdout;
        let volumes = host::volumes(&world.pool)?.join("\n");
        Ok([boot, volumes, host::defined(M)?, host::tree(&world.machine_dir(M))?].join("\n"))
    };
    let before = facts(world)?;
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 4;
    let flipped = world.dir.join("flipped.tar.zst");
    host::write_private(&flipped, "")?;
    fs::write(&flipped, &bad)?;
    let refused = world.nixvm(&["restore-backup", M, text(&flipped)?, "--yes"])?;
    refused.refused(1, &["flipped.tar.zst is damaged"])?;
    host::unchanged("a restore, though refused,", &before, &facts(world)?)?;
    let offered = world.nixvm(&["restore-backup", "e2e"])?.fails(1)?;
    ensure!(!offered.stderr.contains(M), "`e2e` is offered the archives of {M}:\n{offered}");
    let listed = world.nixvm(&["restore-backup", M])?.fails(2)?;
    ensure!(listed.stderr.contains(M), "what could be restored is not shown:\n{listed}");
    Ok(())
}

/// What `backup --json` says.
#[derive(Debug)]
struct Made {
    file: PathBuf,
    bytes: u64,
    data: u64,
    state: String,
    frozen_ms: u64,
    parent: Option<String>,
    seconds: f64,
}

fn backup(world: &World, more: &[&str]) -> Result<Made> {
    let said = world.nixvm(&[&["backup", M, "--json"], more].concat())?.ok()?;
    let json: serde_json::Value = serde_json::from_str(&said.stdout)?;
    let made = &json[0];
    let number = |key: &str| made[key].as_u64().with_context(|| format!("no {key} in {made}"));
    Ok(Made {
        file: made["file"].as_str().context("no file")?.into(),
        bytes: number("bytes")?,
        data: number("data_bytes")?,
        frozen_ms: made["frozen_ms"].as_u64().unwrap_or_default(),
        state: made["state"].as_str().unwrap_or_default().to_owned(),
        parent: made["parent"].as_str().map(str::to_owned),
        seconds: said.seconds,
    })
}

/// Returns the names of an archive's members, as everybody's tools list them.
fn archived(file: &Path) -> Result<String> {
    let mut tar = Command::new("bash");
    tar.args(["-eo", "pipefail", "-c", "zstdcat \"$1\" | tar t", "list"]).arg(file);
    Ok(run(&mut tar, b"", Duration::from_secs(60))?.ok()?.stdout)
}

/// Runs a script in the guest, writes all out, and returns the digest of the last file that it names.
fn written(world: &World, script: &str) -> Result<String> {
    world.guest_root(M, &format!("set -e\n{script}\nsync"))?.ok()?;
    let path = script.rsplit(['>', ' ', '=']).find(|word| word.starts_with("/var/lib/"));
    match script.contains("rm ") {
        true => Ok(String::new()),
        false if script.contains("of=") => sum(world, M, "/var/lib/kept"),
        false => sum(world, M, path.context("the script names no file")?),
    }
}

fn sum(world: &World, machine: &str, path: &str) -> Result<String> {
    let said = world.admin(machine, &["sudo", "sha256sum", path])?.ok()?;
    Ok(said.stdout.split(' ').next().unwrap_or_default().to_owned())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no UTF-8")
}
