//! A guest is reached at its own address, whatever the user's ssh is configured for, and knows what time it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::harness::{Outcome, tell};
use crate::host;
use crate::process::{Output, as_root, host as run_here, run, wait_for};
use crate::world::{A, B, World};

/// How far a guest's clock may be off, in seconds; a login without KVM takes a second itself.
const CLOCK: f64 = 2.0;

/// What people have in their ssh configuration, or an organisation in `/etc/ssh/ssh_config`. Each line that ssh obeys keeps it
/// from a guest, takes it to somebody else, or has it do something else there.
const HOSTILE: &[&str] = &[
    "RemoteCommand echo theirs\nRequestTTY force\nSessionType none\nStdinNull yes\nForkAfterAuthentication yes\n\
     ProxyJump nowhere.invalid\nKnownHostsCommand /bin/false\nStrictHostKeyChecking ask\nVerifyHostKeyDNS yes\n\
     PubkeyAuthentication no\nPreferredAuthentications password\nIdentitiesOnly yes\nIdentityFile /nonexistent/key\n\
     User nobody\nPort 1\nHostName 192.0.2.1\nHostKeyAlias theirs\nCanonicalizeHostname always\n\
     LocalForward /nonexistent/x 127.0.0.1:1\nExitOnForwardFailure yes\nHostKeyAlgorithms ssh-rsa\n\
     PermitLocalCommand yes\nLocalCommand echo theirs\n",
    "ProxyCommand false\n",
    "NoSuchOption yes\n",
    "Match exec \"sleep 60\"\n",
];

/// Begins a program in a mount namespace where ssh's system-wide configuration is `$2`, as the user `$1`.
const AMONG_OTHERS: &str = r#"mount --make-rprivate / && mount --bind "$2" /etc/ssh/ssh_config && user=$1 && shift 2 && exec runuser -u "$user" -- env "$@""#;

pub fn ssh_works_whatever_ssh_is_configured_for(world: &mut World) -> Result<Outcome> {
    world.machine_a()?;
    if !Path::new("/etc/ssh/ssh_config").exists() {
        return Ok(Outcome::Skipped(
            "this host's ssh has no /etc/ssh/ssh_config to hide behind another".into(),
        ));
    }
    let mut failed = Vec::new();
    let mut see = |what: &str, expected: &str, said: Output| {
        if said.code != 0 || said.stdout != expected {
            failed.push(format!("{what}:\n{said}"));
        }
    };
    for config in HOSTILE {
        see(config, "admin\n", ssh_among_others(world, &format!("Host *\n{config}"), "admin")?);
    }
    // The connection that the first opens is shared by all of one host and port.
    let path = world.dir.join("shared");
    let shared = format!("Host *\nControlMaster auto\nControlPath {}\nControlPersist 30\n", path.display());
    for user in ["admin", "user"] {
        see("a shared connection", &format!("{user}\n"), ssh_among_others(world, &shared, user)?);
    }
    ensure!(
        failed.is_empty(),
        "{} of {} did not work\n{}",
        failed.len(),
        HOSTILE.len() + 2,
        failed.join("\n")
    );
    Ok(Outcome::Passed)
}

/// Returns what `id -un` in machine A says of `user`, where ssh is configured so.
fn ssh_among_others(world: &World, config: &str, user: &str) -> Result<Output> {
    let file = world.dir.join("ssh_config");
    fs::write(&file, config)?;
    let me = run_here(&["id", "-un"])?.text().to_owned();
    let mut command = as_root("unshare");
    command.args(["--mount", "sh", "-c", AMONG_OTHERS, "sh", &me]).arg(&file);
    command.args(World::words(&world.command(&["ssh", A, user, "--", "id", "-un"])));
    run(&mut command, b"", Duration::from_secs(90))
}

pub fn the_machines_own_key_is_offered_first(world: &mut World) -> Result<Outcome> {
    world.machine_a()?;
    // sshd lets go after six keys (`MaxAuthTries`), and the agent offers them in the order in which it got them.
    let home = world.dir.join("home-of-keys");
    fs::create_dir_all(home.join(".ssh"))?;
    let mut keys: Vec<PathBuf> = Vec::new();
    for number in 0..8 {
        let key = world.dir.join(format!("other-{number}"));
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
        run(&mut keygen, b"", Duration::from_secs(10))?.ok()?;
        keys.push(key);
    }
    let agent = Agent::begin(world.dir.join("agent-of-eight"))?;
    keys.iter().try_for_each(|key| agent.add(key))?;
    let ssh = |home: Option<&Path>, socket: &Path| -> Result<Output> {
        let mut command = world.command(&["ssh", A, "--", "id", "-un"]);
        command.env("SSH_AUTH_SOCK", socket);
        home.map(|home| command.env("HOME", home));
        run(&mut command, b"", Duration::from_secs(120))
    };
    ssh(None, &agent.socket)?.fails(255)?;

    // In a file of another name than those that ssh tries by itself.
    let work = home.join(".ssh/work_ed25519");
    fs::copy(world.key(), &work)?;
    fs::copy(world.key().with_extension("pub"), work.with_extension("pub"))?;
    let by_file = ssh(Some(&home), &agent.socket)?;
    // The ninth in the agent.
    agent.add(&world.key())?;
    let by_agent = ssh(None, &agent.socket)?;
    ensure!(by_agent.text() == "admin", "with the ninth key of an agent:\n{by_agent}");
    ensure!(
        by_file.text() == "admin",
        "with ~/.ssh/work_ed25519 and eight other keys in an agent:\n{by_file}"
    );

    // An agent that takes no question, as one whose card was pulled.
    let mute = std::os::unix::net::UnixListener::bind(world.dir.join("mute"))?;
    let by_file = ssh(Some(&home), &world.dir.join("mute"))?;
    ensure!(by_file.text() == "admin", "beside an agent that does not answer:\n{by_file}");
    tell!("beside an agent that does not answer: {:.1} s", by_file.seconds);
    drop(mute);
    Ok(Outcome::Passed)
}

/// An ssh agent that ends with the test.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn begin(socket: PathBuf) -> Result<Self> {
        let mut agent = Command::new("ssh-agent");
        agent.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).stderr(Stdio::null());
        let agent = Agent { child: agent.spawn()?, socket };
        wait_for(Duration::from_secs(10), || Ok(agent.socket.exists().then_some(())))?
            .context("ssh-agent did not begin")?;
        Ok(agent)
    }

    fn add(&self, key: &Path) -> Result<()> {
        let mut add = Command::new("ssh-add");
        add.arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket);
        run(&mut add, b"", Duration::from_secs(10))?.ok().map(drop)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn an_agent_that_hangs_holds_up_nobody(world: &mut World) -> Result<Outcome> {
    let address = world.machine_a()?.address.to_string();
    world.guest_root(A, "systemctl kill --signal=STOP qemu-guest-agent")?.ok()?;
    let seen = || -> Result<()> {
        let listed = world.nixvm(&["list", "--json"])?.ok()?;
        let machines: Value = serde_json::from_str(&listed.stdout).with_context(|| listed.to_string())?;
        let row = machines.as_array().into_iter().flatten().find(|row| row["name"] == A);
        let at = row.and_then(|row| row["address"].as_str()).unwrap_or_default();
        ensure!(at.starts_with(&address), "{A} is listed at `{at}`, and answers at {address}:\n{listed}");
        ensure!(listed.seconds < 4.0, "a list took {:.1} s", listed.seconds);
        let status = world.nixvm(&["status", A])?.ok()?;
        ensure!(status.stdout.contains(&address), "no {address} in\n{status}");
        let ssh = world.admin(A, &["id", "-un"])?.ok()?;
        let logs = world.nixvm(&["logs", A, "-n", "1"])?.ok()?;
        let seconds = [&listed, &status, &ssh, &logs].map(|done| format!("{:.1}", done.seconds)).join(", ");
        tell!("list, status, ssh, logs beside an agent that hangs: {seconds} s");
        Ok(())
    };
    let seen = seen();
    world.guest_root(A, "systemctl kill --signal=CONT qemu-guest-agent")?.ok()?;
    seen.map(|()| Outcome::Passed)
}

pub fn the_clock_is_right_after_a_pause(world: &mut World) -> Result<Outcome> {
    world.machine_a()?;
    let before = behind(world)?;
    ensure!(before.abs() < CLOCK, "before any pause, the guest's clock is {before:.1} s behind");
    // What its owner sets is no pause, and stays.
    world
        .guest_root(A, "systemctl stop systemd-timesyncd; date -s '500 seconds ago' >/dev/null; sleep 5")?
        .ok()?;
    let set = behind(world)?;
    ensure!((set - 500.0).abs() < 5.0, "set back by 500 s, the guest's clock is {set:.1} s behind");
    world.guest_root(A, "date -s '500 seconds' >/dev/null")?.ok()?;

    for (what, stop, go) in [
        ("a pause", &["suspend", A][..], "nixvm"),
        ("a pause that virsh ends", &["suspend", A], "virsh"),
        ("a managed save", &["managedsave", A], "nixvm"),
    ] {
        host::virsh(stop)?;
        thread::sleep(Duration::from_secs(20));
        if go == "virsh" {
            host::virsh(&["resume", A])?;
        } else {
            world.nixvm(&["start", A])?.ok()?;
        }
        let resumed = Instant::now();
        let mut late = behind(world)?;
        // Nobody waits for a guest that virsh lets go on, and a busy host may keep it from looking for a while.
        while go == "virsh" && late.abs() >= CLOCK && resumed.elapsed() < Duration::from_secs(15) {
            late = behind(world)?;
        }
        tell!("after {what} of 20 s the clock is {late:.2} s behind");
        ensure!(late.abs() < CLOCK, "after {what} of 20 s the guest's clock is {late:.1} s behind");
    }

    // What one pause is taken too short for is not lost to the next.
    for _ in 0..6 {
        host::virsh(&["suspend", A])?;
        thread::sleep(Duration::from_secs(4));
        host::virsh(&["resume", A])?;
        thread::sleep(Duration::from_secs(3));
    }
    let late = behind(world)?;
    tell!("after six pauses of 4 s the clock is {late:.2} s behind");
    ensure!(late.abs() < CLOCK, "after six pauses of 4 s the guest's clock is {late:.1} s behind");
    Ok(Outcome::Passed)
}

/// Returns how many seconds machine A's clock is behind this host's, at least; a login takes seconds without KVM.
fn behind(world: &World) -> Result<f64> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs_f64());
    let began = now()?;
    let said = world.admin(A, &["date", "+%s.%N"])?.ok()?;
    let (ended, there): (f64, f64) = (now()?, said.text().parse()?);
    // It looked at its clock some time between the two.
    Ok(if there < began { began - there } else { (ended - there).min(0.0) })
}

pub fn a_static_address_goes_before_an_old_lease(world: &mut World) -> Result<Outcome> {
    let leased = world.machine_b()?.address;
    let address = leased.to_string();
    let (network, _) = address.rsplit_once('.').context("an IPv4 address was expected")?;
    // Outside what libvirt's network leases is nothing: .1 is the host, and the rest of the range is unused here.
    let fixed = format!("{network}.251");
    let module = format!(
        "{{ lib, ... }}: {{ systemd.network.networks.\"10-nixvm\" = {{ networkConfig.DHCP = lib.mkForce \"no\"; \
         networkConfig.IPv6AcceptRA = false; address = [ \"{fixed}/24\" ]; gateway = [ \"{network}.1\" ]; }}; }}\n"
    );
    host::write_private(&world.machine_dir(B).join("extra.nix"), &module)?;
    let upgraded = world.nixvm(&["upgrade", B])?.ok()?;
    tell!("upgrade to a static address: {:.1} s", upgraded.seconds);
    for command in [&["status", B][..], &["list"]] {
        let shown = world.nixvm(command)?.ok()?;
        ensure!(shown.stdout.contains(&fixed), "no {fixed} in\n{shown}");
    }
    let seen = world.admin(B, &["ip", "-brief", "address"])?.ok()?;
    ensure!(seen.stdout.contains(&fixed) && !seen.stdout.contains(&address), "the guest has\n{seen}");

    // The lease is an hour long, and a guest that boots is not at it.
    world.nixvm(&["reboot", B])?.ok()?;
    let booting = world.nixvm(&["status", B, "--json"])?.ok()?;
    let status: Value = serde_json::from_str(&booting.stdout)?;
    ensure!(status["address"].is_null(), "a guest that boots is said to be at {}", status["address"]);
    let began = Instant::now();
    world.nixvm(&["ssh", B, "--", "true"])?.refused(1, &[B, "address"])?;
    tell!("ssh to a guest that boots is refused after {:.1} s", began.elapsed().as_secs_f64());
    Ok(Outcome::Passed)
}
