//! All checks of the host, in the order in which they are shown.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use crate::exec;
use crate::guest::Jump;
use crate::host::{Setup, Watch, check_folder, open_pool, probe};
use crate::hypervisor::{Hypervisor, Probe};
use crate::model::domain::Accelerator;
use crate::model::{HOSTS, NamedHost};

use super::check::Check;
use super::{firmware, network, nix, security, workspace};

/// Returns the findings; programs are looked up in `path`.
pub fn doctor(setup: &Setup, path: &OsStr, watch: &dyn Watch) -> Vec<Check> {
    watch.step("Checking this host");
    let mut checks = nix::checks(&setup.temporary);
    checks.extend(["qemu-img", "mkfs.ext4", "ssh"].map(|program| tool(program, path)));
    match setup.hypervisor() {
        Err(error) => checks.push(Check::failed("libvirt", &error)),
        Ok(host) => {
            checks.push(Check::good("libvirt", format!("answers at {}", host.uri())));
            checks.extend(setup.host.as_ref().and_then(|named| architecture(named, &host)));
            checks.extend(host.kvm_device_hint().map(|hint| {
                let finding =
                    "is closed to QEMU; libvirt tries it again at every start, which takes most of a minute";
                Check::warning("/dev/kvm", finding, hint)
            }));
            checks.push(groups(&host, Path::new("/etc/group")));
            checks.push(firmware::check(&host, &setup.session.config));
            checks.extend(sockets(setup, &host));
            checks.push(Check::of("KVM", probe(setup, &host), kvm));
            checks.push(pool(setup, &host));
            checks.extend(network::checks(&host, path));
            if host.is_local() {
                checks.push(security::check(&host));
            }
        }
    }
    if let Some(jump) = Jump::of(setup) {
        checks.push(Check::of("way to guests", jump.check(), |host| {
            Check::good("way to guests", format!("ssh goes through {host}"))
        }));
    }
    checks.push(nix::store());
    checks.push(workspace::check(&setup.workspace));
    checks
}

fn tool(program: &'static str, path: &OsStr) -> Check {
    match exec::find(program, path) {
        Some(found) => Check::good(program, found.display().to_string()),
        None => Check::fault(program, "is not installed", "./quickstart --no-machine"),
    }
}

/// Distributions let members of libvirt's group use the system's libvirt.
fn groups(host: &Hypervisor, file: &Path) -> Check {
    if host.is_session() || !host.is_local() {
        return Check::good("groups", "none is needed for this libvirt");
    }
    if rustix::process::geteuid().is_root() {
        return Check::good("groups", "none is needed by root");
    }
    // After newgrp(1) or sg(1) the list of groups need not have the effective one.
    let mut mine = rustix::process::getgroups().unwrap_or_default();
    mine.push(rustix::process::getegid());
    match libvirt_group(&fs::read_to_string(file).unwrap_or_default()) {
        Some((name, id)) if !mine.iter().any(|group| group.as_raw() == id) => Check::warning(
            "groups",
            format!("you are not in `{name}`; libvirt may ask for a password each time"),
            format!("sudo usermod -aG {name} $USER, then log in again"),
        ),
        Some((name, _)) => Check::good("groups", format!("you are in `{name}`")),
        None => Check::good("groups", "this host has no group for libvirt"),
    }
}

/// Returns the name and number of libvirt's group (NixOS calls it libvirtd) from the text of /etc/group (group(5)).
fn libvirt_group(text: &str) -> Option<(String, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| ["libvirt", "libvirtd"].contains(name))?;
        Some((name.to_owned(), fields.nth(1)?.parse().ok()?))
    })
}

/// What the file `hosts` says of a host decides whether machines are made for it.
fn architecture(named: &NamedHost, host: &Hypervisor) -> Option<Check> {
    let wanted = named.arch?;
    Some(Check::of("architecture", host.arch(), |is| {
        if is == wanted {
            return Check::good("architecture", format!("{} is {}", named.name, is.as_str()));
        }
        let finding =
            format!("{} is {}, and the file `{HOSTS}` says {}", named.name, is.as_str(), wanted.as_str());
        Check::fault(
            "architecture",
            finding,
            format!("write arch={} into the line of {}", is.as_str(), named.name),
        )
    }))
}

/// The paths of a session's sockets begin with this user's home, and the kernel limits their length.
fn sockets(setup: &Setup, host: &Hypervisor) -> Option<Check> {
    if !host.is_session() || !host.is_local() {
        return None;
    }
    Some(Check::of("sockets", host.version(), |version| {
        let Some(room) = setup.session.room_for_name(version) else {
            return Check::good("sockets", "their paths are short enough for every machine");
        };
        let folder = setup.session.config.display();
        let finding = format!("their paths in {folder} leave room for {room} letters of a machine's name");
        let fix = "choose shorter names, or set XDG_CONFIG_HOME to a folder with a shorter path";
        Check::warning("sockets", finding, fix)
    }))
}

fn kvm(probe: Probe) -> Check {
    match probe.accelerator {
        Accelerator::Kvm => Check::good("KVM", probe.reason),
        Accelerator::Tcg => {
            let slow = "guests run under TCG, several times slower and with one processor each";
            let fix = "enable virtualisation (VT-x, AMD-V) in the firmware, or nested virtualisation on the outer host";
            Check::warning("KVM", format!("{}; {slow}", probe.reason), fix)
        }
    }
}

fn pool(setup: &Setup, host: &Hypervisor) -> Check {
    let space = check_folder(setup, host).and_then(|()| open_pool(setup, host)?.space());
    Check::of("storage pool", space, |space| {
        let finding = format!("`{}`, {} GiB free", setup.pool, space.available >> 30);
        let fix = "free space, or choose another pool with `--pool`";
        Check::space("storage pool", space.available, finding, fix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::look::doctor::Health;

    #[test]
    fn libvirts_group_is_found_under_both_its_names() {
        let file = "root:x:0:\nlibvirt-qemu:x:64055:libvirt-qemu\nlibvirt:x:112:me,you\n";
        assert_eq!(libvirt_group(file), Some(("libvirt".into(), 112)));
        assert_eq!(libvirt_group("libvirtd:x:67:me\n"), Some(("libvirtd".into(), 67)));
        assert_eq!(libvirt_group("kvm:x:108:\n"), None);
    }

    #[test]
    fn a_missing_tool_is_a_fault_with_its_cure() {
        let check = tool("no-such-tool-of-ours", OsStr::new("/usr/bin"));
        assert_eq!((check.health, check.fix.is_some()), (Health::Fault, true));
    }
}
