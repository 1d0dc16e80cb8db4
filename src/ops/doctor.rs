//! `doctor`: what this host must have, whether it has it, and the command that mends what it lacks.
//!
//! Every check answers on its own: a fault in one does not hide the others.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::error::{Report, Result};
use crate::exec;
use crate::hypervisor::{Hypervisor, Probe};
use crate::model::domain::Accelerator;
use crate::nix;

use super::accelerator;
use super::deploy::{check_folder, open_pool};
use super::jump::Jump;
use super::{Setup, Watch};

/// Bytes below which a host's free space is worth a warning: about one base image and one build of it.
const LITTLE_SPACE: u64 = 5 << 30;

/// How one requirement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// As it must be.
    Good,
    /// nixvm works, but not as well as it could.
    Warning,
    /// nixvm does not work until this is mended.
    Fault,
}

/// One requirement and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is required.
    pub name: &'static str,
    /// How it stands.
    pub health: Health,
    /// What was found.
    pub finding: String,
    /// What mends it: a command where there is one.
    pub mend: Option<String>,
}

impl Check {
    fn good(name: &'static str, finding: impl Into<String>) -> Self {
        Check { name, health: Health::Good, finding: finding.into(), mend: None }
    }

    fn warning(name: &'static str, finding: impl Into<String>, mend: impl Into<String>) -> Self {
        Check { name, health: Health::Warning, finding: finding.into(), mend: Some(mend.into()) }
    }

    fn fault(name: &'static str, finding: impl Into<String>, mend: impl Into<String>) -> Self {
        Check { name, health: Health::Fault, finding: finding.into(), mend: Some(mend.into()) }
    }

    /// Returns the check of a result that already says in its error what to do.
    fn of<T>(name: &'static str, result: Result<T>, good: impl FnOnce(T) -> Check) -> Check {
        match result {
            Ok(value) => good(value),
            Err(error) => {
                let report = Report::of(&error);
                let finding =
                    std::iter::once(report.error).chain(report.causes).collect::<Vec<_>>().join(": ");
                let mend = report.hints.into_iter().next();
                Check { name, health: Health::Fault, finding, mend }
            }
        }
    }
}

/// Returns how every requirement stands; `path` is where programs are looked up.
pub fn doctor(setup: &Setup, path: &OsStr, watch: &dyn Watch) -> Vec<Check> {
    watch.step("Checking this host");
    let mut checks = vec![nix_itself(), nix_features()];
    checks.extend(["qemu-img", "mkfs.ext4", "ssh"].map(|program| tool(program, path)));
    match setup.hypervisor() {
        Err(error) => checks.push(Check::of::<()>("libvirt", Err(error), |()| Check::good("libvirt", ""))),
        Ok(host) => {
            checks.push(Check::good("libvirt", format!("answers at {}", host.uri())));
            checks.extend(host.kvm_device_hint().map(|hint| {
                let finding = "is closed to QEMU, and libvirt tries it anew at every start, which takes most of a minute";
                Check::warning("/dev/kvm", finding, hint)
            }));
            checks.push(groups(&host, Path::new("/etc/group")));
            checks.push(firmware(&host));
            checks.push(Check::of("KVM", accelerator::probe(setup, &host), kvm));
            checks.push(pool(setup, &host));
            checks.push(network(&host));
        }
    }
    match Jump::of(setup) {
        None => checks.push(ufw(Path::new("/etc/ufw"))),
        Some(jump) => checks.push(Check::of("way to guests", jump.check(), |host| {
            Check::good("way to guests", format!("ssh goes through {host}"))
        })),
    }
    checks.push(space("space for Nix", Path::new("/nix")));
    checks
}

fn nix_itself() -> Check {
    Check::of("Nix", nix::version(), |version| match version.is_supported() {
        true => Check::good("Nix", version.to_string()),
        false => {
            Check::fault("Nix", format!("{version} is older than {}", nix::Version::oldest()), nix::MISSING)
        }
    })
}

fn nix_features() -> Check {
    Check::of("Nix features", nix::features(), |off| match off.as_slice() {
        [] => Check::good("Nix features", "flakes are on"),
        // nixvm switches them on for its own calls; `nix run` and `nix develop` by hand need them.
        off => Check::warning(
            "Nix features",
            format!("{} is off for commands typed by hand", off.join(", ")),
            "mkdir -p ~/.config/nix && echo 'experimental-features = nix-command flakes' >> ~/.config/nix/nix.conf",
        ),
    })
}

fn tool(program: &'static str, path: &OsStr) -> Check {
    match exec::find(program, path) {
        Some(found) => Check::good(program, found.display().to_string()),
        None => Check::fault(program, "is not installed", "./quickstart --no-machine"),
    }
}

/// libvirt's own group is how distributions let a user at the system's libvirt.
fn groups(host: &Hypervisor, file: &Path) -> Check {
    if host.is_session() || !host.is_local() {
        return Check::good("groups", "none is needed for this libvirt");
    }
    if rustix::process::geteuid().is_root() {
        return Check::good("groups", "none is needed by root");
    }
    let mine = rustix::process::getgroups().unwrap_or_default();
    match libvirt_group(&fs::read_to_string(file).unwrap_or_default()) {
        Some((name, id)) if !mine.iter().any(|group| group.as_raw() == id) => Check::warning(
            "groups",
            format!("you are not in `{name}`; libvirt may ask for a password each time"),
            format!("sudo usermod -aG {name} $USER, then log in anew"),
        ),
        Some((name, _)) => Check::good("groups", format!("you are in `{name}`")),
        None => Check::good("groups", "this host has no group for libvirt"),
    }
}

/// Returns name and number of libvirt's group (NixOS calls it libvirtd), from a file as group(5) describes it.
fn libvirt_group(text: &str) -> Option<(String, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| ["libvirt", "libvirtd"].contains(name))?;
        Some((name.to_owned(), fields.nth(1)?.parse().ok()?))
    })
}

fn firmware(host: &Hypervisor) -> Check {
    Check::of("firmware", host.arch().and_then(|arch| host.has_uefi(arch)), |found| match found {
        true => Check::good("firmware", "libvirt has UEFI for guests"),
        false => Check::fault(
            "firmware",
            "libvirt finds no UEFI firmware, which every machine boots with",
            "./quickstart --no-machine, or install OVMF (edk2-ovmf; for aarch64 qemu-efi-aarch64)",
        ),
    })
}

fn kvm(probe: Probe) -> Check {
    match probe.accelerator {
        Accelerator::Kvm => Check::good("KVM", probe.reason),
        Accelerator::Tcg => Check::warning(
            "KVM",
            format!(
                "{}; guests run under TCG, several times slower and with one processor each",
                probe.reason
            ),
            "switch on virtualisation (VT-x, AMD-V) in the firmware, or nested virtualisation on the outer host",
        ),
    }
}

fn pool(setup: &Setup, host: &Hypervisor) -> Check {
    let space = check_folder(setup, host).and_then(|()| open_pool(setup, host)?.space());
    Check::of("storage pool", space, |space| {
        let free = space.available;
        let finding = format!("`{}`, {} GiB free", setup.pool, free >> 30);
        match free < LITTLE_SPACE {
            true => {
                Check::warning("storage pool", finding, "make room, or choose another pool with `--pool`")
            }
            false => Check::good("storage pool", finding),
        }
    })
}

fn network(host: &Hypervisor) -> Check {
    if host.is_session() {
        return Check::good("network", "a session has the `user` network");
    }
    Check::of("network", host.network_runs("default"), |active| match active {
        Some(true) => Check::good("network", "libvirt's `default` is up"),
        Some(false) => Check::good("network", "libvirt's `default` is down; the first `create` starts it"),
        None => Check::good("network", "libvirt has no `default`; the first `create` makes it"),
    })
}

/// UFW drops DHCP and forwarded traffic on libvirt's bridge unless it is told otherwise.
fn ufw(folder: &Path) -> Check {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    if !read("ufw.conf").lines().any(|line| line.trim() == "ENABLED=yes") {
        return Check::good("UFW", "is not in the way");
    }
    if read("user.rules").contains("virbr0") {
        return Check::good("UFW", "has rules for virbr0");
    }
    Check::warning(
        "UFW",
        "is on and has no rule for libvirt's bridge, or they cannot be read",
        "sudo sh -c 'ufw allow in on virbr0; ufw allow out on virbr0; ufw route allow in on virbr0; ufw route allow out on virbr0'",
    )
}

fn space(name: &'static str, path: &Path) -> Check {
    let Ok(stat) = rustix::fs::statvfs(path) else {
        return Check::warning(name, format!("`{}` is not there", path.display()), nix::MISSING);
    };
    let free = stat.f_bavail * stat.f_frsize;
    let finding = format!("{} GiB free in {}", free >> 30, path.display());
    match free < LITTLE_SPACE {
        true => Check::warning(name, finding, "nix-collect-garbage"),
        false => Check::good(name, finding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ufw_is_a_warning_only_when_on_and_without_rules_for_the_bridge() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ufw(dir.path()).health, Health::Good);
        fs::write(dir.path().join("ufw.conf"), "ENABLED=yes\n").unwrap();
        assert_eq!(ufw(dir.path()).health, Health::Warning);
        fs::write(dir.path().join("user.rules"), "-A ufw-user-input -i virbr0 -j ACCEPT\n").unwrap();
        assert_eq!(ufw(dir.path()).health, Health::Good);
    }

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
        assert_eq!((check.health, check.mend.is_some()), (Health::Fault, true));
    }
}
