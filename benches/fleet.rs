//! What a list of a thousand machines on twenty hosts costs, and how it grows with either; and what the images of a hundred machines
//! cost, beside those of single ones.
//!
//!     cargo bench --bench fleet
//!     NIXVM_NIXPKGS=path:$HOME/.cache/nixvm/offline cargo bench --bench fleet -- images
//!
//! The hosts are libvirt's `test:` driver, each with a node of its own, in this process's memory: so these figures hold what nixvm
//! and libvirt's library do, and nothing of the network or of a hypervisor. The machines are off.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nixvm::model::{HostKey, MachineId};

/// Machines and hosts of each row; the last is the fleet that the budgets are about.
const FLEETS: [(usize, usize); 5] = [(10, 1), (100, 1), (1000, 1), (100, 20), (1000, 20)];

const ROUNDS: usize = 5;

/// Machines of one profile whose images are built, and how many of them are built one by one.
const IMAGES: usize = 100;
const ALONE: usize = 5;

fn main() -> Result<()> {
    if std::env::args().any(|argument| argument == "images") { images() } else { lists() }
}

/// Builds the images of machines of one profile, whose base image is there already. The budgets are design's, for two cores.
fn images() -> Result<()> {
    ensure!(std::env::var_os("NIXVM_NIXPKGS").is_some(), "NIXVM_NIXPKGS names no nixpkgs to build from");
    let fleet = tempfile::tempdir()?;
    make(fleet.path(), IMAGES, 1)?;
    let workspace = fleet.path().join("workspace");
    let copied = Command::new("sh")
        .args(["-c", "git ls-files -z flake.nix flake.lock modules nix profiles Cargo.toml | xargs -0 cp --parents -t \"$0\""])
        .arg(&workspace)
        .status()?;
    ensure!(copied.success(), "this repository's flake cannot be copied");
    let change = |machine: usize, port: usize| {
        fs::write(workspace.join(format!("machines/m-{machine}/tcp_ports")), format!("22\n{port}\n"))
    };
    let build = |machines: &str| -> Result<f64> {
        let began = Instant::now();
        let ended = nixvm(fleet.path(), &["build", "--machine", machines]).output()?;
        ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        Ok(began.elapsed().as_secs_f64())
    };
    build("m-0")?;
    let all = build("*")?;
    change(1, 8080)?;
    let one_of_all = build("*")?;
    let unchanged = build("*")?;
    let mut alone = 0.0;
    for machine in 0..ALONE {
        change(machine, 9090)?;
        alone += build(&format!("m-{machine}"))? / ALONE as f64;
    }
    println!("images of {IMAGES} machines                 {all:>8.1} s   budget 20 s");
    println!("the same, with one of them changed      {one_of_all:>8.1} s   budget 2 s");
    println!("the same, with nothing changed          {unchanged:>8.1} s");
    println!(
        "one by one: a machine                   {alone:>8.1} s   {IMAGES} would take {:.0} s",
        alone * IMAGES as f64
    );
    Ok(())
}

fn lists() -> Result<()> {
    println!(
        "{:>8} {:>6} {:>12} {:>15} {:>12} {:>12}",
        "machines", "hosts", "list", "list-machines", "status", "list: peak"
    );
    for (machines, hosts) in FLEETS {
        let fleet = tempfile::tempdir()?;
        make(fleet.path(), machines, hosts)?;
        let listed = nixvm(fleet.path(), &["list", "--json"]).output()?;
        let rows: serde_json::Value = serde_json::from_slice(&listed.stdout)?;
        let off = |row: &serde_json::Value| row["state"] == "shutoff" && row["host"].is_string();
        let rows = rows.as_array().context("no list")?;
        ensure!(rows.len() == machines && rows.iter().all(off), "{listed:?}");
        let time = |arguments: &[&str]| median(|| nixvm(fleet.path(), arguments));
        println!(
            "{machines:>8} {hosts:>6} {:>9.1} ms {:>12.1} ms {:>9.1} ms {:>8.1} MiB",
            time(&["list"])?,
            time(&["list-machines"])?,
            time(&["status", "m-0"])?,
            peak(nixvm(fleet.path(), &["list"]))?,
        );
    }
    Ok(())
}

/// Makes a workspace with machines that are spread evenly over its hosts.
fn make(folder: &Path, machines: usize, hosts: usize) -> Result<()> {
    let workspace = folder.join("workspace");
    for inside in ["profiles", "modules", "machines"] {
        fs::create_dir_all(workspace.join(inside))?;
    }
    fs::write(workspace.join("flake.nix"), "{ outputs = _: { }; }\n")?;
    fs::write(workspace.join("profiles/core.nix"), "{ }\n")?;
    let root = workspace.canonicalize()?;
    // One for all: nobody logs in, and making keys is not what is measured.
    let key = HostKey::generate("root@fleet")?;
    let mut nodes =
        vec![String::from("<node xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>"); hosts];
    for index in 0..machines {
        let (name, host) = (format!("m-{index}"), index % hosts);
        let id = MachineId::generate();
        let machine = workspace.join("machines").join(&name);
        fs::create_dir(&machine)?;
        for (file, text) in [
            ("profile", "core".to_owned()),
            ("machine-id", id.to_string()),
            ("mac-address", format!("52:54:00:00:{:02x}:{:02x}", index / 256, index % 256)),
            ("pool", "nixvm".to_owned()),
            ("host", format!("host-{host}")),
            ("ssh_host_ed25519_key", key.private().trim_end().to_owned()),
        ] {
            fs::write(machine.join(file), text + "\n")?;
        }
        close(&machine)?;
        write!(
            nodes[host],
            "<domain type='test'><name>{name}</name><uuid>{}</uuid><memory>1048576</memory>\
             <metadata>\
             <n:machine xmlns:n='urn:nixvm:domain:1' name='{name}' workspace='{}' volumes='{name}' generation='1'>\
             <n:generation number='1' profile='core' digest='d' base='b' made='1' health='healthy' nixpkgs='n' kernel='k'/>\
             </n:machine></metadata><test:runstate>5</test:runstate><os><type>hvm</type></os></domain>",
            id.to_uuid(),
            root.display(),
        )?;
    }
    let mut lines = String::new();
    for (host, node) in nodes.into_iter().enumerate() {
        let file = folder.join(format!("host-{host}.xml"));
        fs::write(&file, node + "</node>")?;
        writeln!(lines, "host-{host} test://{}", file.canonicalize()?.display())?;
    }
    fs::write(workspace.join("hosts"), lines)?;
    Ok(())
}

fn close(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?)
}

fn nixvm(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nixvm"));
    command.arg("-C").arg(folder.join("workspace")).args(arguments).env("HOME", folder);
    command.env_remove("NIXVM_CONNECT").env_remove("NIXVM_POOL").stdin(Stdio::null());
    command
}

/// Returns the median of what a command takes, in milliseconds.
fn median(command: impl Fn() -> Command) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let mut command = command();
        let began = Instant::now();
        let ended = command.output()?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        ensure!(ended.status.success(), "{command:?} failed: {ended:?}");
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Returns the most memory that a command had at once, in MiB.
fn peak(mut command: Command) -> Result<f64> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0_f64;
    while child.try_wait()?.is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak = peak.max(line.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0);
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    ensure!(peak > 0.0, "it was too quick to be seen");
    Ok(peak)
}
