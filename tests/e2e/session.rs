//! Promise 9, of a person who is not root: no system libvirt, no NAT network, no right but one's own.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::harness::{Outcome, tell};
use crate::host;
use crate::leftovers::{USER, remove_user};
use crate::process::{Output, as_root, host_any, root, run, wait_for};
use crate::world::World;

const MACHINE: &str = "e2e-s";

pub fn a_session_without_root(world: &mut World) -> Result<Outcome> {
    let home = world.dir.join("home");
    let dir = world.dir.clone();
    world.at_the_end(move || remove_user(&dir));
    let person = Person {
        home: home.display().to_string(),
        nixvm: world.nixvm.display().to_string(),
        nixpkgs: world.nixpkgs.clone(),
    };
    person.arrive(world)?;
    let daemon = nix_for(&person)?;

    let created = person.nixvm(&[
        "create",
        MACHINE,
        "core",
        "1024",
        "2",
        "4G",
        "user",
        "--keys",
        ".ssh/id_ed25519.pub",
        "--start",
        "--wait",
    ])?;
    let created = created.ok()?;
    tell!("create until ssh answers: {:.1} s", created.seconds);
    let who = person.nixvm(&["ssh", MACHINE, "--", "id", "-un", "&&", "sudo", "-n", "id", "-u"])?;
    // The words are one command with its arguments, so `&&` is a word as well and `id` refuses it.
    ensure!(who.code != 0, "a word of the command was taken for the shell's:\n{who}");
    let who =
        person.nixvm(&["ssh", MACHINE, "--", "sudo", "-n", "cat", "/proc/sys/kernel/hostname"])?.ok()?;
    ensure!(who.text() == MACHINE, "ssh leads to\n{who}");
    let status = person.nixvm(&["status", MACHINE])?.ok()?;
    ensure!(status.stdout.contains("127.0.0.1:"), "the forwarded port is not shown:\n{status}");

    ensure!(host::definition(MACHINE)?.is_none(), "the machine is on the system's libvirt");
    let owner = root("ps", &["-o", "user:32=,args=", "-u", USER])?;
    ensure!(
        owner.stdout.lines().any(|line| line.contains("qemu") && line.contains(MACHINE)),
        "no QEMU of {USER}'s:\n{owner}"
    );
    // Forwarded on the loopback only: a user's guest is not put on the network behind the host's back.
    let listening = root("ss", &["-Hltnp"]);
    if let Ok(listening) = listening {
        let open: Vec<&str> =
            listening.stdout.lines().filter(|l| l.contains("qemu") && !l.contains("127.0.0.1:")).collect();
        ensure!(open.is_empty(), "a port of the guest is open to the network: {open:?}");
    }

    person.nixvm(&["destroy", MACHINE, "--yes"])?.ok()?;
    let listed = person.nixvm(&["list"])?.ok()?;
    ensure!(!listed.stdout.contains("running"), "it is still there:\n{listed}");
    person.nixvm(&["purge", MACHINE, "--yes"])?.ok()?;
    drop(daemon);
    Ok(Outcome::Passed)
}

struct Person {
    home: String,
    nixvm: String,
    nixpkgs: String,
}

impl Person {
    /// Runs a program as this person, in their home and with nothing of ours in the environment.
    fn run(&self, argv: &[&str], limit: Duration) -> Result<Output> {
        let mut command = as_root("runuser");
        command.args(["-u", USER, "--", "env", "-i", "-C", &self.home]);
        command.args(self.environment()).args(argv);
        run(&mut command, b"", limit)
    }

    fn environment(&self) -> Vec<String> {
        let path = std::env::var("PATH").unwrap_or_default();
        vec![
            format!("HOME={}", self.home),
            format!("USER={USER}"),
            format!("PATH={path}"),
            format!("XDG_RUNTIME_DIR={}/run", self.home),
            format!("NIXVM_NIXPKGS={}", self.nixpkgs),
            "NIX_REMOTE=daemon".into(),
        ]
    }

    fn nixvm(&self, arguments: &[&str]) -> Result<Output> {
        let workspace = format!("{}/workspace", self.home);
        let fixed = [&self.nixvm, "-C", &workspace, "--connect", "qemu:///session", "--color", "never"];
        self.run(&[&fixed[..], arguments].concat(), Duration::from_secs(1800))
    }

    /// Makes the user, their workspace and their ssh key.
    fn arrive(&self, world: &World) -> Result<()> {
        root("useradd", &["--no-create-home", "--home-dir", &self.home, "--shell", "/bin/sh", USER])?;
        fs::create_dir(&self.home)?;
        let key = world.key().display().to_string();
        let workspace = world.workspace.display().to_string();
        let script = r#"
set -e
mkdir -m 700 "$1/.ssh" "$1/run"
cp "$2" "$2.pub" "$1/.ssh/"
mkdir "$1/workspace"
cd "$3"
cp -R flake.nix flake.lock modules profiles nix "$1/workspace/"
mkdir "$1/workspace/machines"
chown -R "$4:" "$1""#;
        root("sh", &["-c", script, "sh", &self.home, &key, &workspace, USER])?;
        self.run(&["virsh", "--connect", "qemu:///session", "version"], Duration::from_secs(60))?.ok()?;
        Ok(())
    }
}

/// A Nix daemon, while it is needed.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = host_any(&["kill", &self.0.id().to_string()]);
        let _ = self.0.wait();
    }
}

/// Somebody who is not root builds through Nix's daemon; where none is running, one is started for this test.
fn nix_for(person: &Person) -> Result<Option<Daemon>> {
    let ping = ["nix", "--extra-experimental-features", "nix-command", "store", "ping", "--store", "daemon"];
    let answers = || Ok((person.run(&ping, Duration::from_secs(20))?.code == 0).then_some(()));
    if answers()?.is_some() {
        return Ok(None);
    }
    let mut daemon = as_root("nix");
    daemon.args(["--extra-experimental-features", "nix-command", "daemon"]);
    let daemon = Daemon(daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    wait_for(Duration::from_secs(20), answers)?.context("the Nix daemon does not answer")?;
    Ok(Some(daemon))
}
