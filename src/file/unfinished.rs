//! Unfinished files and folders beside their final places, and the leftovers of killed nixvms.

use std::fs::{self, File, FileType, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};
use tempfile::{Builder, NamedTempFile, TempDir};

use super::read::existing;
use crate::error::{Explain, Failure, Result};

/// Names of unfinished files: this many random characters between the two.
const BEGINNING: &str = ".nixvm-";
const ENDING: &str = ".tmp";
const RANDOM: usize = 16;

/// Makes a file in the folder with that mode from the start, locked while somebody writes it.
///
/// Files of killed writers are deleted first: they may hold secrets, and would keep the folder from being deleted.
pub(super) fn create_in(folder: &Path, mode: u32) -> std::io::Result<NamedTempFile> {
    // A file that cannot be deleted is no obstacle here.
    let _ = sweep(folder);
    loop {
        let file = named().permissions(fs::Permissions::from_mode(mode)).tempfile_in(folder)?;
        lock(file.as_file());
        if file.path().exists() {
            return Ok(file);
        }
    }
}

/// A folder that is being filled. It is deleted with this value unless it was renamed.
#[derive(Debug)]
pub struct UnfinishedFolder {
    folder: TempDir,
    _lock: File,
}

impl UnfinishedFolder {
    /// Makes one in `folder` that only its owner may enter, and deletes those that killed nixvms left.
    pub fn create_in(folder: &Path) -> std::io::Result<Self> {
        let _ = sweep(folder);
        loop {
            let made = named().permissions(fs::Permissions::from_mode(0o700)).tempdir_in(folder)?;
            let opened = open(made.path())?;
            lock(&opened);
            if made.path().exists() {
                return Ok(UnfinishedFolder { folder: made, _lock: opened });
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn named() -> Builder<'static, 'static> {
    let mut named = Builder::new();
    named.prefix(BEGINNING).suffix(ENDING).rand_bytes(RANDOM);
    named
}

/// Opens a file or a folder to lock it. NFS locks only what is open for writing (flock(2)); a folder or a read-only file
/// cannot be.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    options.clone().write(true).open(path).or_else(|_| options.open(path))
}

/// Locks a new file. Another process may delete it first: the caller checks that. On a file system without locks no other
/// process can delete it.
fn lock(file: &File) {
    let _ = flock(file, FlockOperation::LockExclusive);
}

/// Deletes unfinished files and folders of killed nixvms. Those that are being written, and all other files, stay.
pub fn sweep(folder: &Path) -> Result<()> {
    sweep_those(folder, |name, kind| is_unfinished(name) && (kind.is_file() || kind.is_dir()))
}

/// Deletes the files and folders that `is_ours` recognises by name and type, except those that a process has locked.
pub fn sweep_those(folder: &Path, is_ours: impl Fn(&[u8], FileType) -> bool) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if !is_ours(entry.file_name().as_encoded_bytes(), kind) {
            continue;
        }
        let path = entry.path();
        // Not ours to delete: it belongs to another user, or is gone.
        let Ok(opened) = open(&path) else { continue };
        if flock(&opened, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let removed = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            existing(removed).explain(|| Failure::user(format!("cannot remove {}", path.display())))?;
        }
    }
    Ok(())
}

/// Returns whether this is the name of an unfinished file or folder of nixvm's.
fn is_unfinished(name: &[u8]) -> bool {
    let random =
        name.strip_prefix(BEGINNING.as_bytes()).and_then(|rest| rest.strip_suffix(ENDING.as_bytes()));
    random.is_some_and(|random| random.len() == RANDOM && random.iter().all(u8::is_ascii_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_writer_left_goes_with_the_next_file_and_all_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let stay = [".nixvm-config", ".nixvm-0123456789abcdef", ".nixvm-0123456789abcde.tmp", "notes.tmp"];
        for name in stay.into_iter().chain([".nixvm-0123456789abcdef.tmp"]) {
            fs::write(path(name), "").unwrap();
        }
        fs::create_dir_all(path(".nixvm-fedcba9876543210.tmp").join("a/b")).unwrap();
        fs::write(path(".nixvm-00000000readonly.tmp"), "").unwrap();
        fs::set_permissions(path(".nixvm-00000000readonly.tmp"), fs::Permissions::from_mode(0o400)).unwrap();
        std::os::unix::fs::symlink(path("notes.tmp"), path(".nixvm-aaaaaaaaaaaaaaaa.tmp")).unwrap();
        let living = create_in(dir.path(), 0o600).unwrap();
        let filled = UnfinishedFolder::create_in(dir.path()).unwrap();
        fs::write(filled.path().join("file"), "").unwrap();
        create_in(dir.path(), 0o600).unwrap().persist(path("value")).unwrap();
        assert!(living.path().exists() && filled.path().join("file").exists());
        drop((living, filled));
        let names =
            fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        let mut expected = [&stay[..], &[".nixvm-aaaaaaaaaaaaaaaa.tmp", "value"]].concat();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }
}
