//! What nixvm costs on this host, beside its budgets. Nothing fails here: times belong to the host that they were measured on.
//!
//!     cargo bench --bench budgets
//!
//! It makes two machines in a world of its own, as the end-to-end tests do, and waits for no boot.

#[path = "../tests/e2e/host.rs"]
#[allow(dead_code)]
mod host;
#[path = "../tests/e2e/leftovers.rs"]
#[allow(dead_code)]
mod leftovers;
#[path = "../tests/e2e/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "../tests/e2e/world.rs"]
#[allow(dead_code)]
mod world;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use world::World;

const FIRST: &str = "e2e-first";
const SECOND: &str = "e2e-second";

/// Domains that only have nixvm's metadata, for `list`.
const MANY: usize = 100;

fn main() -> Result<()> {
    process::listen_for_signals()?;
    let world = World::new()?;
    let mut rows = Vec::new();
    startup(&world, &mut rows)?;
    second_machine(&world, &mut rows)?;
    snapshots(&world, &mut rows)?;
    backups(&world, &mut rows)?;
    many_machines(&world, &mut rows)?;
    drop(world);
    println!("{:<52} {:>12} {:>12}", "what", "measured", "budget");
    for Row { what, value, budget, unit } in rows {
        let shown = |value: f64| format!("{value:.1} {unit}");
        let verdict = if value <= budget { "" } else { "  over" };
        println!("{what:<52} {:>12} {:>12}{verdict}", shown(value), shown(budget));
    }
    Ok(())
}

struct Row {
    what: String,
    value: f64,
    budget: f64,
    unit: &'static str,
}

fn row(what: impl Into<String>, value: f64, budget: f64, unit: &'static str) -> Row {
    Row { what: what.into(), value, budget, unit }
}

fn startup(world: &World, rows: &mut Vec<Row>) -> Result<()> {
    rows.push(row("start-up: nixvm --version", median(world, &["--version"])?, 10.0, "ms"));
    rows.push(row("memory: nixvm --version", memory(world, &["--version"])?, 32.0, "MiB"));
    rows.push(row("memory: nixvm list-profiles", memory(world, &["list-profiles"])?, 32.0, "MiB"));
    Ok(())
}

fn second_machine(world: &World, rows: &mut Vec<Row>) -> Result<()> {
    let size = ["core", "1024", "2", "4G", "nat", "--from-agent"];
    world.nixvm(&[&["create", FIRST], &size[..]].concat())?.ok()?;
    world.nixvm(&[&["create", SECOND], &size[..], &["--no-build"]].concat())?.ok()?;
    let nix = world.nixvm(&["build", "--machine", SECOND])?.ok()?;
    // What Nix takes to find that there is nothing to do is Nix's; what `create` takes beyond that is ours.
    let again = world.nixvm(&["build", "--machine", SECOND])?.ok()?;
    let create = world.nixvm(&["create", SECOND])?.ok()?;
    rows.push(row("a second machine: Nix", nix.seconds, 5.0, "s"));
    rows.push(row("a second machine: create beside Nix", create.seconds - again.seconds, 1.0, "s"));

    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let disk = std::fs::canonicalize(world.workspace.join(format!("output/build/vm-{SECOND}/disk.qcow2")))?;
    let in_store = host::allocated(&disk.to_string_lossy())?;
    let in_pool = host::allocated(&host::volume(&world.pool, SECOND, "boot")?)?;
    rows.push(row("a second machine: its disk in the store", mib(in_store), 2.0, "MiB"));
    rows.push(row("a second machine: its boot volume in the pool", mib(in_pool), 2.0, "MiB"));

    world.nixvm(&["destroy", SECOND, "--yes"])?.ok()?;
    rows.push(row("memory: nixvm create", memory(world, &["create", SECOND])?, 32.0, "MiB"));
    Ok(())
}

/// Of a machine that is off, and of one whose guest has just begun to boot: what is added by a boot is the boot's.
fn snapshots(world: &World, rows: &mut Vec<Row>) -> Result<()> {
    let taken = world.nixvm(&["snapshot", FIRST, "one"])?.ok()?;
    let restored = world.nixvm(&["restore-snapshot", FIRST, "one", "--yes"])?.ok()?;
    rows.push(row("a snapshot of a machine that is off", taken.seconds, 1.0, "s"));
    rows.push(row("a snapshot restored, beside shutdown and boot", restored.seconds, 1.0, "s"));
    world.nixvm(&["start", FIRST])?.ok()?;
    let taken = world.nixvm(&["snapshot", FIRST, "two"])?.ok()?;
    world.nixvm(&["force-stop", FIRST])?.ok()?;
    rows.push(row("a snapshot of a machine that runs", taken.seconds, 2.0, "s"));
    rows.push(row("memory: nixvm snapshot", memory(world, &["snapshot", FIRST])?, 32.0, "MiB"));
    Ok(())
}

/// Both ways begin with the volume and end with a file on the disk.
fn backups(world: &World, rows: &mut Vec<Row>) -> Result<()> {
    let raw = world.dir.join("data.raw").display().to_string();
    // A third each of noise, of text and of nothing.
    let make =
        "head -c 256M /dev/urandom > \"$1\"; seq 40000000 | head -c 256M >> \"$1\"; truncate -s 1G \"$1\"";
    process::root("bash", &["-c", make, "make", &raw])?;
    let volumes = host::volumes_of(&world.pool, FIRST)?;
    let top = volumes.iter().filter(|name| name.contains(".data-")).max().context("no data")?;
    let top = host::volume_path(&world.pool, top)?;
    process::root("qemu-img", &["convert", "-n", "-f", "raw", "-O", "qcow2", &raw, &top])?;
    let theirs = world.dir.join("theirs.tar.zst").display().to_string();
    let script = "tar c \"$1\" 2> /dev/null | zstd -q -T0 -o \"$2\" && sync \"$2\"";
    let zstd = process::root("bash", &["-o", "pipefail", "-c", script, "zstd", &top, &theirs])?.seconds;
    let folder = world.dir.join("archives").display().to_string();
    let ours = world.nixvm(&["backup", FIRST, "--to", &folder])?.ok()?.seconds;
    rows.push(row("a backup of 512 MiB, to `tar | zstd -T0`", ours / zstd, 1.0, "times"));
    rows.push(row("memory: nixvm backup", memory(world, &["backup", FIRST, "--to", &folder])?, 32.0, "MiB"));
    let archive = std::fs::read_dir(&folder)?.next().context("no archive")??.path().display().to_string();
    rows.push(row("memory: nixvm verify-backup", memory(world, &["verify-backup", &archive])?, 32.0, "MiB"));
    let restore = ["restore-backup", FIRST, &archive, "--yes"];
    rows.push(row("memory: nixvm restore-backup", memory(world, &restore)?, 32.0, "MiB"));
    println!("tar | zstd -T0: {zstd:.1} s, nixvm backup: {ours:.1} s");
    Ok(())
}

fn many_machines(world: &World, rows: &mut Vec<Row>) -> Result<()> {
    let real = host::defined(SECOND)?;
    let begin = real.find("<metadata>").context("no metadata")?;
    let end = real.find("</metadata>").context("no metadata")? + "</metadata>".len();
    let names: Vec<String> = (0..MANY).map(|i| format!("e2e-{i:03}")).collect();
    for name in &names {
        let metadata = real[begin..end].replace(SECOND, name);
        host::define(
            "define",
            &format!(
                "<domain type='qemu'><name>{name}</name>{metadata}<memory unit='MiB'>16</memory><os><type>hvm</type></os></domain>"
            ),
        )?;
    }
    let listed = world.nixvm(&["list"])?.ok()?;
    ensure!(names.iter().all(|name| listed.stdout.contains(name.as_str())), "not all are listed:\n{listed}");
    rows.push(row(format!("list with {MANY} machines"), median(world, &["list"])?, 50.0, "ms"));
    rows.push(row(format!("status with {MANY} machines"), median(world, &["status", SECOND])?, 50.0, "ms"));
    rows.push(row(
        format!("memory: nixvm list with {MANY} machines"),
        memory(world, &["list"])?,
        32.0,
        "MiB",
    ));
    Ok(())
}

/// Returns the median of what a command takes, in milliseconds.
fn median(world: &World, arguments: &[&str]) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..21 {
        let mut command = world.command(arguments);
        let began = Instant::now();
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        ensure!(status.success(), "{command:?} failed");
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Returns the most memory that a command had resident, in MiB: the kernel's high-water mark, read until the end.
fn memory(world: &World, arguments: &[&str]) -> Result<f64> {
    let mut command = world.command(arguments);
    peak(&mut command).with_context(|| format!("{command:?}"))
}

fn peak(command: &mut Command) -> Result<f64> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0_f64;
    loop {
        // A process that has ended but was not waited for has no such line any more.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        peak = peak.max(kib.unwrap_or(0.0) / 1024.0);
        if let Some(ended) = child.try_wait()? {
            ensure!(ended.success() && peak > 0.0, "it failed, or was too quick to be seen");
            return Ok(peak);
        }
        if peak > 0.0 && kib.is_some() {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}
