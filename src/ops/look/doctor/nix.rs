//! Nix: its version and features, the space in its store, and the folder that it builds in.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};

use crate::file;
use crate::nix::beside::{self, Updates};
use crate::nix::{self, daemon};

use super::check::Check;

/// Free bytes in the folder of builds below which there is a warning: it holds the parts of a base image.
const LITTLE_ROOM: u64 = 1 << 30;

const BUILDS: &str = "Nix's builds";

/// Checks Nix; `temporary` is the user's folder for temporary files.
pub fn checks(temporary: &Path) -> Vec<Check> {
    let found = Check::of("Nix", nix::version(), |version| {
        if version.is_supported() {
            return Check::good("Nix", version.to_string());
        }
        Check::fault("Nix", format!("{version} is older than {}", nix::Version::oldest()), nix::MISSING)
    });
    let features = Check::of("Nix features", nix::features(), |off| match off.as_slice() {
        [] => Check::good("Nix features", "flakes are on"),
        // nixvm enables them for its own calls; `nix run` and `nix develop` by hand need them.
        off => Check::warning(
            "Nix features",
            format!("not enabled for commands typed by hand: {}", off.join(", ")),
            "mkdir -p ~/.config/nix && echo 'experimental-features = nix-command flakes' >> ~/.config/nix/nix.conf",
        ),
    });
    let closed = daemon::closed_to_all_but().map(|group| {
        let finding = format!("serves only members of `{group}`, and you are not one");
        Check::fault("Nix daemon", finding, daemon::joining(&group))
    });
    let (folder, by_daemon) = builds_in(temporary);
    let builds = builds(&folder, by_daemon, Seen::of(&folder));
    let updates = beside::updates(Path::new(beside::FOLDER)).and_then(updates);
    let isolation = nix::isolation_off().ok().and_then(|off| isolation(&off));
    [found, features].into_iter().chain(updates).chain(isolation).chain(closed).chain([builds]).collect()
}

fn isolation(off: &[&str]) -> Option<Check> {
    let finding =
        format!("nix.conf weakens it: {}; builds may see this host's files or run as root", off.join(", "));
    let fix = "./quickstart --no-machine removes what it wrote itself; remove other lines from /etc/nix/nix.conf, and restart nix-daemon";
    (!off.is_empty()).then(|| Check::warning("Nix's sandbox", finding, fix))
}

/// Warns of a Nix that no package manager updates.
fn updates(known: Updates) -> Option<Check> {
    let finding = match known {
        Updates::None => return None,
        Updates::Unknown => format!("an old quickstart made {} without security updates", beside::FOLDER),
        Updates::Newer(packages) => format!("newer packages for {}: {}", beside::FOLDER, packages.join(", ")),
    };
    Some(Check::warning("Nix updates", finding, "./quickstart --no-machine"))
}

pub fn store() -> Check {
    let name = "space for Nix";
    // The first build makes /nix.
    let free = |path: &'static str| Some((path, file::free_space(Path::new(path)).ok()?));
    let Some((path, free)) = free("/nix").or_else(|| free("/")) else {
        return Check::warning(name, "cannot be read", "df /nix");
    };
    Check::space(name, free, format!("{} GiB free in {path}", free >> 30), "nix-collect-garbage")
}

/// Returns the folder where Nix builds for nixvm, and whether its daemon does, not a child of nixvm's.
fn builds_in(temporary: &Path) -> (PathBuf, bool) {
    // A user who may write Nix's database, or make it, builds without the daemon.
    let database = Path::new("/nix/var/nix/db").ancestors().find(|path| path.exists());
    let by_daemon = database.is_some_and(|path| access(path, Access::WRITE_OK).is_err());
    let folder = nix::build_folder().unwrap_or_else(|| {
        if by_daemon { daemons_folder().unwrap_or_else(|| "/tmp".into()) } else { temporary.to_owned() }
    });
    (folder, by_daemon)
}

/// Returns `TMPDIR` of the running daemon; only root can read it.
fn daemons_folder() -> Option<PathBuf> {
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let daemon = processes.into_iter().find(|process| {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let program = words.first().and_then(|path| path.rsplit(|byte| *byte == b'/').next());
        program == Some(b"nix-daemon") || (program == Some(b"nix") && words.contains(&b"daemon".as_slice()))
    })?;
    let environment = fs::read(daemon.join("environ")).ok()?;
    let variables = String::from_utf8_lossy(&environment).into_owned();
    variables.split('\0').find_map(|variable| variable.strip_prefix("TMPDIR=")).map(PathBuf::from)
}

/// The state of the folder of builds.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Whether it exists, or Nix makes it.
    there: bool,
    writable: bool,
    noexec: bool,
    free: u64,
}

impl Seen {
    fn of(folder: &Path) -> Self {
        // Nix makes its own folder of builds, but not the folders above it.
        let own = folder.starts_with("/nix/var/nix") && Path::new("/nix/var/nix").is_dir();
        let stat = folder.ancestors().find_map(|path| statvfs(path).ok());
        Seen {
            there: folder.is_dir() || own,
            writable: own || access(folder, Access::WRITE_OK).is_ok(),
            noexec: stat.as_ref().is_some_and(|stat| stat.f_flag.contains(StatVfsMountFlags::NOEXEC)),
            free: stat.map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize)),
        }
    }
}

fn builds(folder: &Path, by_daemon: bool, seen: Seen) -> Check {
    let shown = folder.display();
    let other = if by_daemon {
        "set another in /etc/nix/nix.conf, `build-dir = /var/tmp` (before Nix 2.22: TMPDIR of the daemon's unit), and restart nix-daemon"
    } else {
        "set another: `TMPDIR=/var/tmp nixvm …`, or `build-dir = /var/tmp` in /etc/nix/nix.conf"
    };
    if !seen.there {
        Check::fault(BUILDS, format!("{shown}, where Nix builds, does not exist"), other)
    } else if !by_daemon && !seen.writable {
        Check::fault(BUILDS, format!("{shown}, where Nix builds, cannot be written"), other)
    } else if seen.noexec {
        let finding = format!("{shown}, where Nix builds, is mounted `noexec`: no program can run there");
        Check::warning(BUILDS, finding, other)
    } else if seen.free < LITTLE_ROOM {
        Check::warning(BUILDS, format!("{} MiB free in {shown}, where Nix builds", seen.free >> 20), other)
    } else {
        Check::good(BUILDS, format!("{} GiB free in {shown}", seen.free >> 30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::look::doctor::Health;

    fn told(by_daemon: bool, seen: Seen) -> Check {
        builds(Path::new("/b"), by_daemon, seen)
    }

    #[test]
    fn the_folder_of_builds_must_be_there_have_room_and_run_programs() {
        let good = Seen { there: true, writable: true, noexec: false, free: 9 << 30 };
        assert_eq!(told(false, good).health, Health::Good);
        let gone = Seen { there: false, ..good };
        assert!(told(false, gone).fix.unwrap().contains("TMPDIR=/var/tmp nixvm"));
        assert!(told(true, gone).fix.unwrap().contains("restart nix-daemon"));
        let closed = Seen { writable: false, ..good };
        assert_eq!((told(false, gone).health, told(false, closed).health), (Health::Fault, Health::Fault));
        assert_eq!(told(true, closed).health, Health::Good, "the daemon is root");
        let noexec = told(true, Seen { noexec: true, ..good });
        assert!(noexec.health == Health::Warning && noexec.finding.contains("noexec"), "{noexec:?}");
        assert_eq!(
            told(true, Seen { free: 900 << 20, ..good }).finding,
            "900 MiB free in /b, where Nix builds"
        );
    }

    #[test]
    fn a_weakened_sandbox_is_a_warning() {
        assert_eq!(isolation(&[]), None);
        let weak = isolation(&["sandbox = false"]).unwrap();
        assert!(weak.health == Health::Warning && weak.finding.contains("sandbox = false"), "{weak:?}");
    }

    #[test]
    fn newer_packages_of_an_unpacked_nix_are_a_warning() {
        assert_eq!(updates(Updates::None), None);
        let newer = updates(Updates::Newer(vec!["libssl3t64=3.5.2-1".into()])).unwrap();
        assert_eq!(newer.health, Health::Warning);
        assert!(newer.finding.ends_with(": libssl3t64=3.5.2-1"), "{newer:?}");
        assert!(updates(Updates::Unknown).unwrap().fix.unwrap().contains("quickstart"));
    }

    #[test]
    fn a_folder_is_seen_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (there, gone) = (Seen::of(dir.path()), Seen::of(&dir.path().join("gone")));
        assert!(there.there && there.writable && there.free > 0 && !gone.there);
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        for line in mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()) {
            // A folder over which another was mounted later is that one.
            let last = mounts.lines().rfind(|other| other.split(' ').nth(1) == Some(line[1]));
            let noexec =
                last.is_some_and(|last| last.split(' ').nth(3).unwrap().split(',').any(|o| o == "noexec"));
            if !line[1].contains('\\') && Path::new(line[1]).is_dir() {
                assert_eq!(Seen::of(Path::new(line[1])).noexec, noexec, "{line:?}");
            }
        }
    }
}
