//! A libvirt session: the folders of this user that it works in, and environment variables that name wrong ones.
//!
//! `su`, `sudo -E` and cron leave another user's variables, or none. libvirt would then fail with a bare permission error; as
//! root it would create folders in that user's home which the user could not use any more.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::error::Failure;

/// Longest path of a socket, in bytes (unix(7): 108 with the byte that ends it).
const LONGEST_SOCKET: usize = 107;

/// The folders of this user that a session works in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// As the environment or the account says.
    pub home: Option<PathBuf>,
    /// Where libvirt keeps a user's machines: `XDG_CONFIG_HOME`, or `.config` in the home.
    pub config: PathBuf,
    /// `XDG_RUNTIME_DIR`, where that is set.
    pub runtime: Option<PathBuf>,
}

impl Session {
    /// Returns why a session of this user cannot work in these folders.
    pub fn fault(&self) -> Option<Failure> {
        let me = geteuid().as_raw();
        let foreign = |variable: &str, folder: &Path, owner: u32| {
            let folder = folder.display();
            Failure::user(format!(
                "{variable} is {folder}, which belongs to user {owner}, and you are user {me}"
            ))
        };
        let Some(home) = &self.home else {
            return Some(
                Failure::user("a libvirt session works in your home, and you have none")
                    .hint("set HOME to a folder of yours"),
            );
        };
        // libvirt creates a home that does not exist, or complains about it.
        if let Some(owner) = owner(home).filter(|owner| *owner != me) {
            return Some(foreign("HOME", home, owner).hint(
                "a libvirt session works in your own home: log in as yourself (`su - USER`, `sudo -i`), or set HOME",
            ));
        }
        let runtime = self.runtime.as_ref()?;
        match owner(runtime) {
            Some(owner) if owner == me => None,
            Some(owner) => Some(foreign("XDG_RUNTIME_DIR", runtime, owner).hint(
                "`su` kept it: log in as yourself (`machinectl shell USER@`, `ssh USER@localhost`), or run `env -u XDG_RUNTIME_DIR nixvm …`",
            )),
            None => Some(
                Failure::user(format!("XDG_RUNTIME_DIR is {}, which cannot be entered", runtime.display())).hint(
                    "`loginctl enable-linger` keeps yours while you are not logged in; or run `env -u XDG_RUNTIME_DIR nixvm …`",
                ),
            ),
        }
    }

    /// Returns how many letters of a machine's name fit into the paths of its sockets; `None` where every name fits.
    ///
    /// `libvirt` is the version as libvirt counts it, 9002000 for 9.2: since then the agent's socket is in the runtime folder.
    pub fn room_for_name(&self, libvirt: u32) -> Option<usize> {
        // libvirt puts a number before the name and cuts the name to 20 characters (virDomainDefGetShortName).
        let (number, short) = ("99999-", 20);
        let socket = if libvirt < 9_002_000 {
            "/libvirt/qemu/channel/target/domain-/org.qemu.guest_agent.0"
        } else {
            "/libvirt/qemu/lib/domain-/monitor.sock"
        };
        let longest = self.config.as_os_str().as_bytes().len() + socket.len() + number.len();
        let room = LONGEST_SOCKET.saturating_sub(longest);
        (room < short).then_some(room)
    }

    /// Returns why a machine of that name could not be started in this session.
    pub fn socket_fault(&self, name: &str, libvirt: u32) -> Option<Failure> {
        let room = self.room_for_name(libvirt).filter(|room| name.len() > *room)?;
        let failure = Failure::user(format!(
            "the paths of libvirt's sockets for `{name}` in {} would be longer than {LONGEST_SOCKET} bytes",
            self.config.display()
        ));
        Some(failure.hint(match room {
            0 => "set XDG_CONFIG_HOME to a folder with a short path, for every program that uses this session".into(),
            _ => format!(
                "choose a name of at most {room} letters, or set XDG_CONFIG_HOME to a folder with a shorter path"
            ),
        }))
    }
}

fn owner(folder: &Path) -> Option<u32> {
    let folder = if folder.as_os_str() == OsStr::new("") { Path::new(".") } else { folder };
    fs::metadata(folder).ok().map(|metadata| metadata.uid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    fn session(home: Option<&Path>, runtime: Option<&Path>) -> Session {
        Session {
            home: home.map(Into::into),
            config: "/home/me/.config".into(),
            runtime: runtime.map(Into::into),
        }
    }

    #[test]
    fn folders_of_somebody_elses_are_told_by_their_variable() {
        let mine = tempfile::tempdir().unwrap();
        let mine = Some(mine.path());
        // Root's, or where root runs this somebody else's.
        let strange = tempfile::tempdir().unwrap();
        let strange = if geteuid().is_root() {
            std::os::unix::fs::chown(strange.path(), Some(4242), None).unwrap();
            strange.path()
        } else {
            Path::new("/")
        };
        let told = |session: Session| session.fault().map(|fault| Report::of(&fault.into()));
        assert_eq!(told(session(mine, None)), None);
        assert_eq!(told(session(mine, mine)), None);
        let begins = |session: Session, beginning: &str| {
            let report = told(session).unwrap();
            assert!(report.error.starts_with(beginning), "{report:?}");
            assert_eq!(report.hints.len(), 1);
        };
        begins(session(None, None), "a libvirt session works in your home");
        begins(session(Some(strange), mine), "HOME is ");
        begins(session(mine, Some(strange)), "XDG_RUNTIME_DIR is ");
        begins(
            session(mine, Some(Path::new("/nonexistent"))),
            "XDG_RUNTIME_DIR is /nonexistent, which cannot",
        );
    }

    #[test]
    fn sockets_have_room_for_so_much_of_a_name() {
        let of = |config: &str| Session { config: config.into(), ..session(None, None) };
        let home = of("/home/me/.config");
        assert_eq!((home.room_for_name(9_000_000), home.room_for_name(11_000_000)), (None, None));
        let long = of("/home/someone.with.a.name/.config");
        assert_eq!((long.room_for_name(9_000_000), long.room_for_name(11_000_000)), (Some(9), None));
        assert!(long.socket_fault("web", 9_000_000).is_none());
        let report = Report::of(&long.socket_fault("database-1", 9_000_000).unwrap().into());
        assert!(report.hints[0].starts_with("choose a name of at most 9 letters"), "{report:?}");
        let deep = of(&format!("/{}", "x".repeat(90)));
        assert!(
            Report::of(&deep.socket_fault("a", 11_000_000).unwrap().into()).hints[0].contains("a short path")
        );
    }
}
