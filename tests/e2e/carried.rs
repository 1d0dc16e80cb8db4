//! What an immutable guest does although its system cannot be written: folders that are kept, keys of services' users,
//! freed blocks that go back, and an identity volume that comes late.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::harness::{Outcome, tell};
use crate::host::{self, mib, virsh};
use crate::process::{host as on_host, host_any, wait_for};
use crate::world::World;

const M: &str = "e2e-carried";

/// A user like that of forgejo or gitolite, which keeps the keys of its people in its home.
const EXTRA: &str = r#"
{
  nixvm.persist = [ "/srv" "/etc/rancher" ];
  systemd.tmpfiles.rules = [ "d /srv/git 0750 git git -" ];
  users.groups.git = { };
  users.users.git = {
    isSystemUser = true;
    group = "git";
    home = "/var/lib/git";
    createHome = true;
    shell = "/bin/sh";
  };
}
"#;

/// Returns the machine's address; the first test that needs it makes it.
fn machine(world: &mut World) -> Result<String> {
    if host::definition(M)?.is_none() {
        host::write_private(&world.machine_dir(M).join("extra.nix"), EXTRA)?;
        let asked = ["create", M, "core", "1024", "1", "4G", "nat", "--from-agent", "--start", "--wait"];
        world.nixvm(&asked)?.ok()?;
        world.adopt(M);
    }
    Ok(world.address(M)?.to_string())
}

pub fn kept_folders_are_where_they_are_wanted(world: &mut World) -> Result<Outcome> {
    machine(world)?;
    world
        .guest_root(
            M,
            r#"
set -e
test "$(stat -c '%U %a' /srv /srv/git /etc/rancher | tr '\n' ' ')" = 'root 755 git 750 root 755 '
echo srv > /srv/git/e2e
mkdir /etc/rancher/k3s
echo etc > /etc/rancher/k3s/e2e
! touch /etc/e2e /opt/e2e 2>/dev/null
test "$(cat /var/persist/srv/git/e2e /var/persist/etc/rancher/k3s/e2e | tr '\n' ' ')" = 'srv etc '"#,
        )?
        .ok()?;
    world.nixvm(&["reboot", M, "--wait"])?.ok()?;
    let now = world
        .guest_root(M, "cat /srv/git/e2e /etc/rancher/k3s/e2e; systemctl --failed --plain --no-legend")?
        .ok()?;
    ensure!(now.text() == "srv\netc", "after a reboot the kept folders hold\n{now}");
    Ok(Outcome::Passed)
}

pub fn a_key_in_a_home_counts_for_services_alone(world: &mut World) -> Result<Outcome> {
    let address = machine(world)?;
    let key = world.dir.join("service-key");
    let path = key.to_string_lossy().into_owned();
    on_host(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "service", "-f", &path])?;
    let public = std::fs::read_to_string(key.with_extension("pub"))?;
    let script = format!(
        "set -e
for name in git admin user; do
  home=$(getent passwd $name | cut -d: -f6)
  install -d -o $name -m 700 $home/.ssh
  for file in authorized_keys authorized_keys2; do
    printf %s '{public}' > $home/.ssh/$file
    chown $name $home/.ssh/$file
    chmod 600 $home/.ssh/$file
  done
done"
    );
    world.guest_root(M, &script)?.ok()?;
    let comes_in = |user: &str| -> Result<bool> {
        let options =
            ["IdentitiesOnly=yes", "IdentityAgent=none", "StrictHostKeyChecking=no", "BatchMode=yes"];
        let mut argv = vec!["ssh", "-F", "none", "-i", &path, "-o", "UserKnownHostsFile=/dev/null"];
        argv.extend(options.iter().flat_map(|option| ["-o", option]));
        let target = format!("{user}@{address}");
        argv.extend([target.as_str(), "id", "-un"]);
        Ok(host_any(&argv)?.stdout.trim() == user)
    };
    ensure!(comes_in("git")?, "the key in the home of git is not read, so nobody can use git over ssh");
    ensure!(!comes_in("admin")?, "a key that admin put into its home lets in");
    ensure!(!comes_in("user")?, "a key that user put into its home lets in");
    Ok(Outcome::Passed)
}

/// The blocks that a file takes are free on the host again after the weekly trim, which is run here by hand.
pub fn freed_blocks_go_back_to_the_pool(world: &mut World) -> Result<Outcome> {
    machine(world)?;
    let timer = world
        .guest_root(M, "systemctl is-active fstrim.timer; systemctl show -P TimersCalendar fstrim.timer")?
        .ok()?;
    // As systemd writes `weekly` out (systemd.time(7)).
    let weekly = timer.stdout.starts_with("active") && timer.stdout.contains("OnCalendar=Mon *-*-* 00:00:00");
    ensure!(weekly, "fstrim.timer is {timer}");

    let data = host::volume(&world.pool, M, "data")?;
    let before = host::allocated(&data)?;
    world.guest_root(M, "head -c 300M /dev/urandom > /var/e2e-large && sync")?.ok()?;
    let full = host::allocated(&data)?;
    ensure!(full > before + (250 << 20), "300 MiB more take only {}", mib(full - before));
    world.guest_root(M, "rm /var/e2e-large && sync && systemctl start fstrim.service")?.ok()?;
    let now = host::allocated(&data)?;
    tell!(
        "the data volume takes {}, with a file of 300 MiB {}, after fstrim {}",
        mib(before),
        mib(full),
        mib(now)
    );
    ensure!(now < before + (50 << 20), "the blocks are still the guest's");
    Ok(Outcome::Passed)
}

/// A host that is too busy attaches the disk when the guest has given it up: more than 90 s late.
pub fn an_identity_volume_that_comes_late_is_read(world: &mut World) -> Result<Outcome> {
    machine(world)?;
    let keys = world.guest_root(M, "cat /run/nixvm/identity/ssh_host_ed25519_key | sha256sum; cut -d: -f2 /run/nixvm/root_password_hash")?.ok()?;
    world.nixvm(&["stop", M])?.ok()?;

    let whole = host::defined(M)?;
    let (without, disk) = without_identity(&whole).context("the definition has no identity disk")?;
    host::define("define", &without)?.ok()?;
    let boot = Instant::now();
    virsh(&["start", M])?;
    // The agent answers from a guest that nobody can log in to.
    let missing = wait_for(Duration::from_secs(900), || {
        let up = host::virsh_any(&["qemu-agent-command", M, r#"{"execute":"guest-get-osinfo"}"#])?;
        Ok((up.code == 0).then_some(()))
    })?;
    ensure!(missing.is_some(), "the machine does not boot without its identity volume");
    let booted = boot.elapsed().as_secs();

    let file = world.dir.join("identity.xml");
    std::fs::write(&file, disk)?;
    virsh(&["attach-device", M, &file.to_string_lossy(), "--live"])?;
    let attached = Instant::now();
    let answers = wait_for(Duration::from_secs(120), || {
        let said = world.admin(M, &["true"])?;
        Ok((said.code == 0).then_some(()))
    })?;
    ensure!(answers.is_some(), "sshd has not the host key that nixvm pins, 120 s after its volume came");
    tell!("up without it after {booted} s, ssh {} s after it came", attached.elapsed().as_secs());
    let now = world.guest_root(M, "cat /run/nixvm/identity/ssh_host_ed25519_key | sha256sum; cut -d: -f2 /run/nixvm/root_password_hash; systemctl --failed --plain --no-legend")?.ok()?;
    ensure!(now.text() == keys.text(), "read late, it holds\n{now}\ninstead of\n{keys}");
    host::define("define", &whole)?.ok()?;
    Ok(Outcome::Passed)
}

/// Returns a definition without its identity disk, and that disk's element.
fn without_identity(xml: &str) -> Option<(String, String)> {
    let serial = xml.find("<serial>nixvm-identity</serial>")?;
    let start = xml[..serial].rfind("<disk ")?;
    let end = serial + xml[serial..].find("</disk>")? + "</disk>".len();
    Some((format!("{}{}", &xml[..start], &xml[end..]), xml[start..end].to_owned()))
}
