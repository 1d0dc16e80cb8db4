//! What nixvm costs on this host, beside its budgets and beside the way of the shell scripts that it replaces, where they have
//! one. Nothing fails here: times belong to the host that they were measured on.
//!
//!     cargo bench --bench budgets
//!
//! It makes two machines in a world of its own, as the end-to-end tests do, and waits for three boots of one of them.

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
#[path = "../tests/e2e/writer.rs"]
mod writer;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nixvm::config::{self, Workspace};
use nixvm::model::{Generation, Machine};
use nixvm::render;

use process::Output;
use world::World;
use writer::{PAUSE, longest_gap};

const FIRST: &str = "e2e-first";
const SECOND: &str = "e2e-second";

/// Domains that only have nixvm's metadata, for `list`.
const MANY: usize = 100;

fn main() -> Result<()> {
    process::listen_for_signals()?;
    let run = world::Run::new()?;
    let world = World::new(&run)?;
    let mut rows = Vec::new();
    startup(&world, &mut rows)?;
    second_machine(&world, &mut rows)?;
    rendering(&world, &mut rows)?;
    snapshots(&world, &mut rows)?;
    backups(&world, &mut rows)?;
    running(&world, &mut rows)?;
    many_machines(&world, &mut rows)?;
    fleet(&world, &mut rows)?;
    drop(world);
    println!("{:<52} {:>12} {:>12} {:>12}", "what", "measured", "budget", "original");
    for Row { what, value, budget, original, unit } in rows {
        let shown = |value: f64| format!("{value:.1} {unit}");
        let [limit, theirs] = [budget, original].map(|value| value.map(shown).unwrap_or_default());
        let verdict = if budget.is_some_and(|budget| value > budget) { "  over" } else { "" };
        println!("{what:<52} {:>12} {limit:>12} {theirs:>12}{verdict}", shown(value));
    }
    Ok(())
}

struct Row {
    what: String,
    value: f64,
    budget: Option<f64>,
    /// What the original takes for the same.
    original: Option<f64>,
    unit: &'static str,
}

impl Row {
    fn beside(self, original: f64) -> Self {
        Row { original: Some(original), ..self }
    }
}

fn row(what: impl Into<String>, value: f64, budget: f64, unit: &'static str) -> Row {
    Row { what: what.into(), value, budget: Some(budget), original: None, unit }
}

/// A figure that others are to be seen beside.
fn note(what: impl Into<String>, value: f64, unit: &'static str) -> Row {
    Row { what: what.into(), value, budget: None, original: None, unit }
}

/// Most of a start is the loading of libvirt's library and of what that is linked with.
fn startup(world: &World, rows: &mut Vec<Row>) -> Result<()> {
    let ours = median(|| world.command(&["--version"]))?;
    let libvirts = median(|| {
        let mut virsh = Command::new("virsh");
        virsh.arg("--version");
        virsh
    })?;
    rows.push(row("start-up: nixvm --version", ours, 10.0, "ms"));
    rows.push(note("start-up: virsh --version, for libvirt's share", libvirts, "ms"));
    rows.push(note("start-up: what nixvm takes more than virsh", ours - libvirts, "ms"));
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

fn rendering(world: &World, rows: &mut Vec<Row>) -> Result<()> {
    let one = config::load(&Workspace::at(&world.workspace)?, &FIRST.parse()?)?;
    let named = |i| Ok(Machine { name: format!("e2e-{i}").parse()?, ..one.clone() });
    let machines: Vec<Machine> = (0..1000).map(named).collect::<Result<_>>()?;
    let generation = Generation { number: 1, digest: render::digest(&one) };
    let began = Instant::now();
    for machine in &machines {
        std::hint::black_box(render::module(machine, &generation)?);
    }
    rows.push(row("rendering 1,000 machines", began.elapsed().as_secs_f64() * 1000.0, 100.0, "ms"));
    Ok(())
}

/// Of a machine that is off, and of one whose guest has just begun to boot: what is added by a boot is the boot's.
fn snapshots(world: &World, rows: &mut Vec<Row>) -> Result<()> {
    // The original's are inside the disk's file, of a machine that is off.
    let disk = data_disk(world)?;
    let inside = |what: &str| process::root("qemu-img", &["snapshot", "-q", what, "one", &disk]);
    let theirs = [inside("-c")?.seconds, inside("-a")?.seconds];
    inside("-d")?;
    let taken = world.nixvm(&["snapshot", FIRST, "one"])?.ok()?;
    let restored = world.nixvm(&["restore-snapshot", FIRST, "one", "--yes"])?.ok()?;
    rows.push(row("a snapshot of a machine that is off", taken.seconds, 1.0, "s").beside(theirs[0]));
    let what = "a snapshot restored, beside shutdown and boot";
    rows.push(row(what, restored.seconds, 1.0, "s").beside(theirs[1]));
    world.nixvm(&["start", FIRST])?.ok()?;
    let taken = world.nixvm(&["snapshot", FIRST, "two"])?.ok()?;
    world.nixvm(&["force-stop", FIRST])?.ok()?;
    rows.push(row("a snapshot of a machine that runs", taken.seconds, 2.0, "s"));
    rows.push(row("memory: nixvm snapshot", memory(world, &["snapshot", FIRST])?, 32.0, "MiB"));
    Ok(())
}

/// Both ways begin with the data of a machine that is off and end with a file on the disk.
fn backups(world: &World, rows: &mut Vec<Row>) -> Result<()> {
    // What is backed up is one file in both.
    world.nixvm(&["recreate", FIRST, "--yes"])?.ok()?;
    let raw = world.dir.join("data.raw").display().to_string();
    // Half of it noise, half of it text; and as much of nothing.
    let make =
        "head -c 256M /dev/urandom > \"$1\"; seq 40000000 | head -c 256M >> \"$1\"; truncate -s 1G \"$1\"";
    process::root("bash", &["-c", make, "make", &raw])?;
    let disk = data_disk(world)?;
    process::root("qemu-img", &["convert", "-n", "-f", "raw", "-O", "qcow2", &raw, &disk])?;
    let theirs = world.dir.join("theirs.tar.zst").display().to_string();
    let script = "tar c \"$1\" 2> /dev/null | zstd -q -f -T0 -o \"$2\" && sync \"$2\"";
    let folder = world.dir.join("archives").display().to_string();
    let backup = ["backup", FIRST, "--to", &folder];
    // In turns, and the better of each: another process can only make one slower.
    let (mut zstd, mut ours) = (f64::MAX, f64::MAX);
    for _ in 0..3 {
        let ran = process::root("bash", &["-o", "pipefail", "-c", script, "zstd", &disk, &theirs])?;
        zstd = zstd.min(ran.seconds);
        ours = ours.min(world.nixvm(&backup)?.ok()?.seconds);
    }
    let archive = std::fs::read_dir(&folder)?.next().context("no archive")??.path().display().to_string();
    let mib = |path: &str| std::fs::metadata(path).map(|file| file.len() as f64 / f64::from(1 << 20));
    let (size, theirs) = (mib(&archive)?, mib(&theirs)?);
    rows.push(row("a backup of 512 MiB, to `tar | zstd -T0`", ours, zstd, "s").beside(zstd));
    rows.push(note("a backup of 512 MiB: its archive", size, "MiB").beside(theirs));
    rows.push(row("memory: nixvm backup", memory(world, &backup)?, 32.0, "MiB"));
    rows.push(row("memory: nixvm verify-backup", memory(world, &["verify-backup", &archive])?, 32.0, "MiB"));
    let restore = ["restore-backup", FIRST, &archive, "--yes"];
    rows.push(row("memory: nixvm restore-backup", memory(world, &restore)?, 32.0, "MiB"));
    Ok(())
}

/// What a guest notices: of a backup, of an upgrade beside a plain reboot, and what a rollback takes beside its boot.
fn running(world: &World, rows: &mut Vec<Row>) -> Result<()> {
    // The data that was restored last is no file system.
    world.nixvm(&["recreate", FIRST, "--yes"])?.ok()?;
    world.nixvm(&["start", FIRST, "--wait"])?.ok()?;
    world.guest_root(FIRST, "head -c 64M /dev/urandom > /var/lib/noise; sync")?.ok()?;
    let folder = world.dir.join("of-running").display().to_string();
    let (idle, ()) = longest_gap(world, FIRST, || Ok(()))?;
    let (busy, made) =
        longest_gap(world, FIRST, || json(world.nixvm(&["backup", FIRST, "--to", &folder, "--json"])?))?;
    rows.push(note("a writer's longest pause: nothing done", idle, "ms"));
    // The original's machine is off meanwhile.
    rows.push(row("a writer's longest pause: a backup", busy, PAUSE, "ms"));
    rows.push(note("... of which frozen", made["frozen_ms"].as_f64().context("it was not frozen")?, "ms"));
    let (busy, _) = longest_gap(world, FIRST, || world.nixvm(&["snapshot", FIRST, "live"])?.ok())?;
    rows.push(row("a writer's longest pause: a snapshot", busy, 1000.0, "ms"));

    let reboot = world.nixvm(&["reboot", FIRST, "--wait"])?.ok()?.seconds;
    let extra = "{ environment.etc.\"bench\".text = \"upgraded\"; }\n";
    host::write_private(&world.machine_dir(FIRST).join("extra.nix"), extra)?;
    let done = world.nixvm(&["upgrade", FIRST, "--json"])?;
    let seconds = done.seconds;
    let downtime = json(done)?["downtime"].as_f64().context("no downtime")?;
    rows.push(note("a reboot, until ssh answers", reboot, "s"));
    // The original shuts the machine down, and then builds.
    rows.push(row("an upgrade's downtime", downtime, reboot + 3.0, "s").beside(seconds));
    world.nixvm(&["force-stop", FIRST])?.ok()?;
    let rollback = world.nixvm(&["rollback", FIRST])?.ok()?.seconds;
    rows.push(row("a rollback beside its boot", rollback, 1.0, "s"));
    Ok(())
}

/// Returns the first thing that a command said under `--json`.
fn json(said: Output) -> Result<serde_json::Value> {
    let said = said.ok()?;
    let value: serde_json::Value = serde_json::from_str(&said.stdout).with_context(|| said.to_string())?;
    Ok(value[0].clone())
}

/// Returns the file that the machine's data is written to.
fn data_disk(world: &World) -> Result<String> {
    let volumes = host::volumes_of(&world.pool, FIRST)?;
    let top = volumes.iter().filter(|name| name.contains(".data-")).max().context("no data")?;
    host::volume_path(&world.pool, top)
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
    rows.push(row(format!("list with {MANY} machines"), median(|| world.command(&["list"]))?, 50.0, "ms"));
    rows.push(row(
        format!("status with {MANY} machines"),
        median(|| world.command(&["status", SECOND]))?,
        50.0,
        "ms",
    ));
    rows.push(row(
        format!("memory: nixvm list with {MANY} machines"),
        memory(world, &["list"])?,
        32.0,
        "MiB",
    ));
    Ok(())
}

/// Makes as many machines of one profile with `apply`, off, and looks for what is due of them.
fn fleet(world: &World, rows: &mut Vec<Row>) -> Result<()> {
    for number in 0..MANY {
        let name = format!("fleet-{number:03}");
        world
            .nixvm(&["create", &name, "core", "512", "1", "64M", "user", "--from-agent", "--no-build"])?
            .ok()?;
    }
    let all = "fleet-*";
    let images = world.nixvm(&["build", "--machine", all])?.ok()?;
    let create = world.nixvm(&["apply", all])?.ok()?;
    ensure!(create.stdout.matches(" create").count() == MANY, "not all were created:\n{create}");
    rows.push(row(format!("images of {MANY} machines"), images.seconds, 20.0, "s"));
    rows.push(row(format!("create of {MANY} machines, images built"), create.seconds, 30.0, "s"));
    rows.push(row(
        format!("apply with nothing to do, {MANY} machines"),
        median(|| world.command(&["apply", all]))?,
        1000.0,
        "ms",
    ));
    rows.push(row(
        format!("memory: nixvm apply, {MANY} machines"),
        memory(world, &["apply", all])?,
        32.0,
        "MiB",
    ));
    world.nixvm(&["purge", all, "--yes"])?.ok().map(drop)
}

/// Returns the median of what a command takes, in milliseconds.
fn median(command: impl Fn() -> Command) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..21 {
        let mut command = command();
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
