//! One process at a time works on a machine.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::command::Command;
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::interrupt;
use crate::model::MachineName;

const POLL: Duration = Duration::from_millis(100);

/// The process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub command: Command,
    /// In seconds since 1970.
    pub since: u64,
}

/// The right to work on a machine, until it is dropped or the process ends.
#[derive(Debug)]
pub struct MachineLock {
    path: PathBuf,
    file: File,
}

impl MachineLock {
    /// Takes the lock of a machine. Waits for `patience` if another process holds it.
    pub fn take(folder: &Path, machine: &MachineName, holder: &Holder, patience: Duration) -> Result<Self> {
        file::create_private_folder(folder)?;
        let path = path(folder, machine);
        let cannot = || Failure::user(format!("cannot lock {}", path.display()));
        let mut options = OpenOptions::new();
        let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(no_link);
        let locked = interrupt::poll(patience, POLL, || {
            loop {
                let file = options.open(&path).map_err(|error| {
                    anyhow::Error::from(file::hinted(cannot(), &path, &error).because(error))
                })?;
                file::give_to_owner_of(folder, &file).explain(cannot)?;
                match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) if is_at(&file, &path) => return Ok(Some(file)),
                    // Its holder has deleted it meanwhile, and another process may hold the lock by that name.
                    Ok(()) => {}
                    Err(Errno::WOULDBLOCK) => return Ok(None),
                    Err(error) => return Err(error).explain(cannot),
                }
            }
        })?;
        let Some(mut file) = locked else {
            return Err(busy(machine, File::open(&path).ok().and_then(|mut file| read(&mut file))).into());
        };
        let text = serde_json::to_vec(holder).explain(cannot)?;
        file.set_len(0).and_then(|()| file.write_all(&text)).explain(cannot)?;
        Ok(MachineLock { path, file })
    }

    /// Gives the lock up and deletes its file.
    pub fn remove(self) -> Result<()> {
        file::remove(&self.path).map(drop)
    }
}

/// The file exists only while the lock is held, so that commands for names without a machine leave no files. A process that
/// waits for the lock notices that the file at the path is another one.
impl Drop for MachineLock {
    fn drop(&mut self) {
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns whether `file` is the one at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => identity(open) == identity(there),
        _ => false,
    }
}

pub(super) fn holder(folder: &Path, machine: &MachineName) -> Option<Holder> {
    let mut file = File::open(path(folder, machine)).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => read(&mut file),
        _ => None,
    }
}

fn path(folder: &Path, machine: &MachineName) -> PathBuf {
    folder.join(format!("{machine}.lock"))
}

/// Returns `None` where the holder has not written it yet.
fn read(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut text)).ok()?;
    serde_json::from_str(&text).ok()
}

fn busy(machine: &MachineName, holder: Option<Holder>) -> Failure {
    let by = holder.map_or_else(
        || "another nixvm".to_owned(),
        |holder| format!("`nixvm {}` (process {})", holder.command, holder.pid),
    );
    Failure::user(format!("{by} is working on {machine}; nothing was changed"))
        .hint("try again when it is done, or let this command wait for it with `--wait`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me(command: &str) -> Holder {
        Holder { pid: 42, command: Command::of_line(command), since: 1 }
    }

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let web: MachineName = "web".parse().unwrap();
        assert_eq!(holder(dir.path(), &web), None);
        let first = MachineLock::take(dir.path(), &web, &me("upgrade web"), Duration::ZERO).unwrap();
        assert_eq!(holder(dir.path(), &web), Some(me("upgrade web")));
        let refused = MachineLock::take(dir.path(), &web, &me("start web"), Duration::ZERO).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`nixvm upgrade web` (process 42) is working on web; nothing was changed"
        );
        MachineLock::take(dir.path(), &"web-2".parse().unwrap(), &me("start web-2"), Duration::ZERO).unwrap();
        drop(first);
        assert_eq!(holder(dir.path(), &web), None);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "a lock that nobody has is a file");
        MachineLock::take(dir.path(), &web, &me("start web"), Duration::ZERO).unwrap();
    }

    #[test]
    fn who_waits_gets_it_when_it_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let web: MachineName = "web".parse().unwrap();
        let first = MachineLock::take(dir.path(), &web, &me("upgrade web"), Duration::ZERO).unwrap();
        std::thread::scope(|scope| {
            let second = scope
                .spawn(|| MachineLock::take(dir.path(), &web, &me("start web"), Duration::from_secs(20)));
            std::thread::sleep(Duration::from_millis(150));
            drop(first);
            second.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_lock_that_was_removed_is_not_taken_for_one_that_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let web: MachineName = "web".parse().unwrap();
        let first = MachineLock::take(dir.path(), &web, &me("purge web"), Duration::ZERO).unwrap();
        let old = File::open(path(dir.path(), &web)).unwrap();
        first.remove().unwrap();
        assert!(!path(dir.path(), &web).exists());
        let _second = MachineLock::take(dir.path(), &web, &me("create web"), Duration::ZERO).unwrap();
        // A process that opened the file before it was deleted can lock it, and would be the second holder.
        flock(&old, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(!is_at(&old, &path(dir.path(), &web)));
        let third = MachineLock::take(dir.path(), &web, &me("start web"), Duration::ZERO).unwrap_err();
        assert!(third.to_string().contains("create web"), "{third}");
    }
}
