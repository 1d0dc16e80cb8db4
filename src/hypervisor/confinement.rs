//! How QEMU is confined beyond users and modes: by AppArmor on Debian, Ubuntu and openSUSE, by SELinux on Fedora.
//!
//! libvirt gives QEMU access to the files that a domain's definition names, and to their backing files. Where this fails,
//! QEMU reports only "Permission denied".

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};

use super::{Hypervisor, Owned};
use crate::error::{Failure, Result};
use crate::libvirt::{self, Answer, Say, code};
use crate::model::uri::{is_local, is_session};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confinement {
    /// Only users and modes.
    None,
    /// A profile for each domain, which names paths.
    AppArmor,
    /// Labels, which libvirt gives to files.
    SeLinux,
}

/// The beginnings of paths that `virt-aa-helper` lets no domain write to (its `valid_path`, libvirt 9.0 to 11).
const RESERVED: [&str; 19] = [
    "/bin/",
    "/boot/",
    "/etc/",
    "/initrd",
    "/lib",
    "/lost+found/",
    "/proc/",
    "/sbin/",
    "/selinux/",
    "/sys/",
    "/usr/bin/",
    "/usr/lib",
    "/usr/local/bin/",
    "/usr/local/etc/",
    "/usr/local/lib",
    "/usr/local/sbin/",
    "/usr/sbin/",
    "/usr/share/",
    "/vmlinuz",
];

/// Characters with a meaning in a profile's paths (apparmor.d(5), "Globbing"), or that end one.
const GLOB: [char; 9] = ['"', '\\', '*', '?', '[', ']', '{', '}', '\n'];

impl Confinement {
    /// Returns why no machine with disks in that folder could start; `None` if one can.
    pub fn refuses(self, folder: &str) -> Option<String> {
        if self != Confinement::AppArmor {
            return None;
        }
        if let Some(glob) = folder.chars().find(|c| GLOB.contains(c)) {
            return Some(format!("`{}` in a path has a special meaning to AppArmor", glob.escape_default()));
        }
        let inside = format!("{folder}/");
        let reserved = RESERVED.iter().find(|start| inside.starts_with(**start))?;
        Some(format!("libvirt lets AppArmor give machines no path that begins with `{reserved}`"))
    }
}

impl Hypervisor {
    pub fn confinement(&self) -> Result<Confinement> {
        confinement(self.connection()).say(|| Failure::user("cannot ask libvirt what it confines QEMU with"))
    }
}

impl Owned {
    /// Returns what confines the machine's QEMU; [`Confinement::None`] if libvirt does not tell.
    pub(super) fn confinement(&self) -> Confinement {
        let asked = self.domain.connect().and_then(|connection| confinement(&connection));
        asked.unwrap_or(Confinement::None)
    }

    /// Returns the failure to start QEMU, with a hint where QEMU itself failed and a missing permission may be the reason.
    pub(super) fn cannot_start(&self, verb: &str, error: &Error) -> Failure {
        let failure = self.cannot(verb);
        let by_qemu = [ErrorNumber::InternalError, ErrorNumber::OperationFailed, ErrorNumber::SystemError];
        if !code(error).is_some_and(|code| by_qemu.contains(&code)) {
            return failure;
        }
        match (self.closed_folder(), self.confinement()) {
            (Some(folder), _) => failure.hint(format!(
                "if a permission is what is missing: QEMU's user may be kept out by the mode of `{0}`; `chmod o+x {0}` lets it through",
                folder.display()
            )),
            (None, Confinement::AppArmor) => failure.hint(
                "if a permission is what is missing: AppArmor confines QEMU on this host, and `sudo dmesg | grep DENIED` names the file and the profile",
            ),
            (None, Confinement::SeLinux) => failure.hint(
                "if a permission is what is missing: SELinux confines QEMU on this host; `sudo ausearch -m avc -ts recent` names the file, and `sudo restorecon -R` on the pool's folder gives it the label that libvirt expects",
            ),
            (None, Confinement::None) => failure,
        }
    }

    /// Returns the first folder on the path to the machine's files that QEMU's user cannot pass, according to its mode.
    fn closed_folder(&self) -> Option<PathBuf> {
        let uri = self.domain.connect().and_then(|connection| connection.uri()).ok()?;
        // In a session QEMU runs as the user; the folders of another host cannot be seen from here.
        if !is_local(&uri) || is_session(&uri) {
            return None;
        }
        let nvram = self.disks().ok()?.nvram?;
        closed(Path::new(&nvram).parent()?)
    }
}

fn confinement(connection: &Connect) -> Answer<Confinement> {
    let model = libvirt::security_model(connection).unless(ErrorNumber::NoSupport)?;
    Ok(match model.as_deref() {
        Some("apparmor") => Confinement::AppArmor,
        Some("selinux") => Confinement::SeLinux,
        _ => Confinement::None,
    })
}

/// Returns the uppermost of the folder and its parents that only its owner and group can pass.
fn closed(folder: &Path) -> Option<PathBuf> {
    let mut way: Vec<&Path> = folder.ancestors().collect();
    way.reverse();
    let shut = |folder: &&Path| std::fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 == 0);
    way.into_iter().find(shut).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_that_apparmor_keeps_from_machines_is_known() {
        let refused = |folder: &str| Confinement::AppArmor.refuses(folder).is_some();
        for folder in ["/etc", "/lib64/x", "/usr/share/vms", "/boot", "/pool [1]", "/a{b", "/a\\b", "/a\"b"] {
            assert!(refused(folder), "{folder}");
            assert_eq!(Confinement::SeLinux.refuses(folder), None);
        }
        for folder in [
            "/var/lib/libvirt/images/nixvm",
            "/srv/a b",
            "/home/me/vms",
            "/etcetera",
            "/usr/local/vms",
            "/p/é#,@(x)",
        ] {
            assert!(!refused(folder), "{folder}");
        }
    }

    #[test]
    fn a_folder_that_qemu_cannot_pass_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("home/pool");
        fs::create_dir_all(&inner).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        mode(dir.path(), 0o711);
        mode(&inner, 0o711);
        mode(&dir.path().join("home"), 0o750);
        assert_eq!(closed(&inner), Some(dir.path().join("home")));
        mode(&dir.path().join("home"), 0o751);
        assert_eq!(closed(&inner), None);
    }

    #[test]
    fn a_driver_that_confines_nothing_is_no_error() {
        let hypervisor = Hypervisor::open("test:///default").unwrap();
        assert_eq!(hypervisor.confinement().unwrap(), Confinement::None);
    }
}
