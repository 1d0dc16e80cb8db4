//! What `export` writes, booted without nixvm and libvirt.

use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::harness::{Outcome, tell};
use crate::host;
use crate::process::{run, wait_for};
use crate::world::{A, World};

/// QEMU of the exported images; it ends with this value.
struct Booted(Child);

impl Drop for Booted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn an_export_of_a_running_machine_boots_by_plain_qemu(world: &mut World) -> Result<Outcome> {
    world.machine_a()?;
    let asked = "cat /etc/machine-id /etc/nixvm-release /var/lib/e2e-exported; hostname; sudo sh -c 'sha256sum /run/nixvm/identity/*'";
    world.guest_root(A, "date +%N > /var/lib/e2e-exported; chmod 644 /var/lib/e2e-exported")?.ok()?;
    let original = world.admin(A, &[asked])?.ok()?;
    let exported = world.nixvm(&["export", A])?.ok()?;
    tell!("export: {:.1} s", exported.seconds);

    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let log = world.dir.join("exported.log");
    let script = world.workspace.join("output/exports").join(A).join("boot.sh");
    let mut boot = Command::new(&script);
    if host::is_emulated(A)? {
        // There may be a KVM that does not work, which only nixvm's own test finds out.
        boot.env("ACCEL", "tcg,thread=single");
    }
    boot.env("SSH_PORT", &port).args(["-m", "1024"]).stdin(Stdio::null());
    let mut booted =
        Booted(boot.stdout(File::create(&log)?).stderr(File::create(world.dir.join("qemu.log"))?).spawn()?);

    // Nothing of nixvm's own: the keys that the machine has are enough.
    let host_key = world.file(A, "ssh_host_ed25519_key.pub")?;
    let known = world.dir.join("exported_hosts");
    std::fs::write(&known, format!("[127.0.0.1]:{port} {host_key}"))?;
    let mut ssh = Command::new("ssh");
    for option in ["BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=5"] {
        ssh.args(["-o", option]);
    }
    ssh.arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
    ssh.args(["-F", "/dev/null", "-i"]).arg(world.key()).args(["-p", &port, "admin@127.0.0.1", asked]);
    let answer = wait_for(Duration::from_secs(240), || {
        let ended = booted.0.try_wait()?;
        ensure!(ended.is_none(), "QEMU ended:\n{}", std::fs::read_to_string(world.dir.join("qemu.log"))?);
        let said = run(&mut ssh, b"", Duration::from_secs(60))?;
        Ok((said.code == 0).then_some(said))
    })?;
    drop(booted);
    let console = || String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    let answer = answer.with_context(|| format!("the exported images did not come up:\n{}", console()))?;
    ensure!(answer.stdout == original.stdout, "the original says\n{original}\nand its export\n{answer}");
    Ok(Outcome::Passed)
}
