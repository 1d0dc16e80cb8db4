//! Promise 9, of a person at another computer: libvirt is reached by ssh, and nothing else of its host is.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::console::Console;
use crate::harness::{Outcome, tell};
use crate::host;
use crate::leftovers::{REMOTE, remove_remote};
use crate::process::{Output, as_root, host as run_here, root, run, wait_for};
use crate::world::World;

const R: &str = "e2e-r";

/// Both ends of a cable between the host and the other computer (RFC 5737: no network has them).
const HOST: &str = "198.51.100.1";
const OTHER: &str = "198.51.100.2";

/// What runs on the other computer: a network of its own, and none of libvirt's folders.
const ELSEWHERE: &str = r#"mount -t tmpfs none /var/lib/libvirt && mount -t tmpfs none /run/libvirt && exec runuser -u "$0" -- env "$@""#;

pub fn promise_9_a_remote_host_by_ssh_alone(world: &mut World) -> Result<Outcome> {
    let far = Far::begin(world)?;
    if !far.reaches(HOST, far.port)? {
        return Ok(Outcome::Skipped(format!("this host's firewall lets nothing in from {OTHER}")));
    }
    fs::write(world.workspace.join("hosts"), format!("far {}\n", far.uri))?;
    let ways = far.nixvm(world, &["doctor", "--host", "far", "--json"])?;
    let checks: Vec<Value> = serde_json::from_str(&ways.stdout).with_context(|| ways.to_string())?;
    let health = |name: &str| checks.iter().find(|c| c["name"] == name).map(|c| c["health"].clone());
    ensure!(health("way to guests") == Some("good".into()), "doctor finds no way to guests:\n{ways}");
    ensure!(health("UFW").is_none(), "doctor looks for the firewall of the wrong host:\n{ways}");

    // A NAT network: that of the host, whose addresses mean nothing to the other computer.
    let made = [
        "create",
        R,
        "core",
        "1024",
        "2",
        "256M",
        "nat",
        "--from-agent",
        "--host",
        "far",
        "--start",
        "--wait",
    ];
    let created = far.nixvm(world, &made)?.ok()?;
    tell!("create until ssh answers: {:.1} s", created.seconds);
    let status = json(&far.nixvm(world, &["status", R, "--json"])?.ok()?)?;
    let address = status["address"].as_str().and_then(|at| at.rsplit_once(':')).context("no address")?.0;
    ensure!(status["state"] == "running" && address == world.address(R)?.to_string(), "status: {status}");
    ensure!(!far.reaches(address, 22)?, "{address} is reached directly: this test shows nothing");
    let listed = json(&far.nixvm(world, &["list", "--json"])?.ok()?)?;
    let row = listed.as_array().and_then(|rows| rows.iter().find(|row| row["name"] == R));
    ensure!(row.is_some_and(|row| row["host"] == "far"), "it is not in the list: {listed}");

    far.guest_root(world, "hostname > /var/lib/kept; sync")?.ok()?;
    let logged = json(&far.nixvm(world, &["logs", R, "--unit", "sshd", "--json"])?.ok()?)?;
    ensure!(logged["source"] == "journal", "the log: {logged}");
    let mut console = Console::of(&far.command(world, &["console", R]))?;
    console.expect("^]")?;
    console.prompt()?;
    console.leave()?;

    far.nixvm(world, &["snapshot", R, "first"])?.ok()?;
    let full = far.backup(world)?;
    ensure!(full.state == "frozen", "the guest's agent answers, and the data is {}", full.state);
    far.nixvm(world, &["verify-backup", &full.file])?.ok()?;
    far.guest_root(world, "echo later > /var/lib/kept; sync")?.ok()?;

    // And the network on which ssh is at a port of the host's loopback.
    host::write_private(&world.machine_dir(R).join("network"), "user\n")?;
    let extra = "{ environment.etc.\"e2e-upgraded\".text = \"yes\\n\"; }\n";
    host::write_private(&world.machine_dir(R).join("extra.nix"), extra)?;
    host::write_program(&world.machine_dir(R).join("health-check"), CHECK)?;
    let upgraded = far.nixvm(world, &["upgrade", R])?;
    let upgraded =
        upgraded.refused(3, &["health-check", "the guest of e2e-r says yes", "generation 1 runs again"])?;
    tell!("an upgrade that its health check takes back: {:.1} s", upgraded.seconds);
    let status = json(&far.nixvm(world, &["status", R, "--json"])?.ok()?)?;
    let address = status["address"].as_str().unwrap_or_default();
    ensure!(address.starts_with("127.0.0.1:"), "ssh is reached at {address}");
    let seen = far.guest_root(world, "cat /var/lib/kept; ls /etc/e2e-upgraded")?;
    ensure!(seen.stdout == "later\n" && seen.code != 0, "in the guest of generation 1:\n{seen}");

    // Without a boot: that it holds what it held is seen of its next archive.
    far.nixvm(world, &["stop", R])?.ok()?;
    far.nixvm(world, &["restore-backup", R, &full.file, "--yes"])?.ok()?;
    ensure!(host::state(R)? == "shut off", "a restore left it {}", host::state(R)?);
    let again = far.backup(world)?;
    ensure!(again.state == "off", "the machine is off, and its data {}", again.state);
    let [was, is] = [data(world, "was", &full.file)?, data(world, "is", &again.file)?];
    run_here(&["qemu-img", "compare", &was, &is])?;
    far.nixvm(world, &["export", R])?.ok()?;
    let exported = world.workspace.join("output/exports").join(R).join("data.qcow2").display().to_string();
    run_here(&["qemu-img", "compare", &exported, &is])?;
    far.nixvm(world, &["restore-snapshot", R, "first", "--yes", "--discard"])?.ok()?;
    far.nixvm(world, &["delete-snapshot", R, "first", "--yes"])?.ok()?;

    far.nixvm(world, &["purge", R, "--yes"])?.ok()?;
    ensure!(host::definition(R)?.is_none() && !world.machine_dir(R).exists(), "`purge` left it");
    let left = host::volumes_of(&world.pool, R)?;
    ensure!(left.is_empty(), "`purge` left {left:?}");
    Ok(Outcome::Passed)
}

/// A health check that asks the guest by the one way that there is, and is content with the old generation only.
const CHECK: &str = r#"#!/bin/sh
said=$("$NIXVM" ssh "$NIXVM_MACHINE" -- cat /etc/e2e-upgraded)
echo "the guest of $NIXVM_MACHINE says $said" >&2
test "$said" != yes
"#;

/// The other computer, and the way from it to the host.
struct Far {
    user: String,
    port: u16,
    uri: String,
}

/// What the test looks at in what `backup --json` says.
struct Archived {
    file: String,
    state: String,
}

impl Far {
    fn begin(world: &mut World) -> Result<Self> {
        let dir = world.dir.join(REMOTE);
        fs::create_dir(&dir)?;
        let undo = world.dir.clone();
        world.at_the_end(move || remove_remote(&undo));
        let cable = format!(
            "ip netns add {REMOTE} && ip link add {REMOTE}0 type veth peer name {REMOTE}1 netns {REMOTE} &&
             ip addr add {HOST}/30 dev {REMOTE}0 && ip link set {REMOTE}0 up &&
             ip -n {REMOTE} addr add {OTHER}/30 dev {REMOTE}1 && ip -n {REMOTE} link set {REMOTE}1 up"
        );
        root("sh", &["-c", &cable])?;
        let user = run_here(&["id", "-un"])?.text().to_owned();
        let port = serve(&dir)?;
        // What a person has in ~/.ssh, which is not for tests to write to. The key is named in the URI.
        let known = format!("[{HOST}]:{port} {}", fs::read_to_string(dir.join("host_key.pub"))?);
        fs::write(dir.join("known_hosts"), known)?;
        let [ssh, known] = ["ssh", "known_hosts"].map(|name| dir.join(name));
        let line = format!(
            "#!/bin/sh\nexec ssh -F /dev/null -o StrictHostKeyChecking=yes -o UserKnownHostsFile={} \"$@\"\n",
            known.display()
        );
        host::write_program(&ssh, &line)?;
        let key = dir.join("key");
        let options = format!("keyfile={}&command={}", key.display(), ssh.display());
        Ok(Far { uri: format!("qemu+ssh://{user}@{HOST}:{port}/system?{options}"), user, port })
    }

    /// Returns a program's command line on the other computer; variables may stand before the program, as for env(1).
    fn elsewhere<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        let mut command = as_root("ip");
        command.args(["netns", "exec", REMOTE, "sh", "-c", ELSEWHERE, &self.user]);
        command.args(words);
        command
    }

    /// Returns nixvm's command line there.
    fn command(&self, world: &World, arguments: &[&str]) -> Command {
        let mut words = World::words(&world.command(arguments));
        words.splice(
            0..0,
            [format!("NIXVM_CONNECT={}", self.uri), format!("NIXVM={}", world.nixvm.display())],
        );
        self.elsewhere(&words)
    }

    fn nixvm(&self, world: &World, arguments: &[&str]) -> Result<Output> {
        run(&mut self.command(world, arguments), b"", Duration::from_secs(1800))
    }

    fn guest_root(&self, world: &World, script: &str) -> Result<Output> {
        let mut ssh = self.command(world, &["ssh", R, "--", "sudo", "bash", "-s"]);
        run(&mut ssh, script.as_bytes(), Duration::from_secs(120))
    }

    /// Returns whether the other computer reaches a port by itself.
    fn reaches(&self, address: &str, port: u16) -> Result<bool> {
        let script = format!("exec 3<>/dev/tcp/{address}/{port}");
        let mut bash = self.elsewhere(&["timeout", "5", "bash", "-c", &script]);
        Ok(run(&mut bash, b"", Duration::from_secs(30))?.code == 0)
    }

    fn backup(&self, world: &World) -> Result<Archived> {
        let said = json(&self.nixvm(world, &["backup", R, "--json"])?.ok()?)?;
        let text =
            |key: &str| said[0][key].as_str().map(str::to_owned).with_context(|| format!("no {key}: {said}"));
        Ok(Archived { file: text("file")?, state: text("state")? })
    }
}

/// Unpacks the data of an archive, as everybody's tools do, and returns its file.
fn data(world: &World, name: &str, archive: &str) -> Result<String> {
    let to = world.dir.join(REMOTE).join(name).display().to_string();
    let unpack = "zstdcat \"$1\" | tar xO data.qcow2 > \"$2\"";
    run_here(&["bash", "-eo", "pipefail", "-c", unpack, "data", archive, &to])?;
    Ok(to)
}

/// Starts an ssh server for the user of these tests and returns its port.
fn serve(dir: &Path) -> Result<u16> {
    for name in ["host_key", "key"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join(name));
        run(&mut keygen, b"", Duration::from_secs(10))?.ok()?;
    }
    // Free now; nothing else listens on an address that was just made.
    let port = TcpListener::bind((HOST, 0))?.local_addr()?.port();
    let at = |name: &str| dir.join(name).display().to_string();
    // `StrictModes` minds that everybody can write to /tmp; PAM would want a session of the system's.
    let config = format!(
        "ListenAddress {HOST}:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile {}\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n",
        at("host_key"),
        at("key.pub"),
        at("pid")
    );
    fs::write(dir.join("config"), config)?;
    // Debian's service makes it, which may never have run.
    root("mkdir", &["-p", "/run/sshd"])?;
    let mut sshd = Command::new(sshd()?);
    sshd.arg("-f").arg(dir.join("config")).arg("-E").arg(dir.join("log"));
    // It goes to the background once it listens.
    let status = sshd.stdin(Stdio::null()).status()?;
    let log = || fs::read_to_string(dir.join("log")).unwrap_or_default();
    ensure!(status.success(), "sshd does not start:\n{}", log());
    let begun = wait_for(Duration::from_secs(10), || Ok(dir.join("pid").exists().then_some(())))?;
    begun.with_context(|| format!("sshd does not begin:\n{}", log()))?;
    Ok(port)
}

/// sshd starts itself again by its own path, so it wants a whole one.
fn sshd() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    folders.map(|folder| folder.join("sshd")).find(|path| path.exists()).context("there is no sshd")
}

fn json(said: &Output) -> Result<Value> {
    serde_json::from_str(&said.stdout).with_context(|| said.to_string())
}
