//! Writing files.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use tempfile::NamedTempFile;

use super::folder::{create_folder, sync_folder};
use super::owner::{give_to_owner_of, hinted};
use super::read::existing;
use super::unfinished;
use crate::error::{Explain, Failure, Result};

/// Replaces a file; only its owner can read it.
///
/// The contents are written beside it, synced and renamed: whenever this is interrupted, the file is the old one or the new
/// one.
pub fn replace(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    put(path, contents.as_ref(), 0o600, None)
}

/// Makes a file to be renamed to its place later. It has that mode from the start and belongs to the folder's owner.
pub fn unfinished_in(folder: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let file = unfinished::create_in(folder, mode)?;
    give_to_owner_of(folder, file.as_file())?;
    Ok(file)
}

/// As [`replace`], for a file that is no secret: it keeps its mode; a new file gets the mode of the umask.
pub fn replace_shared(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    let there = fs::metadata(path).ok().map(|file| file.permissions());
    // The umask takes bits from this mode, as it does for any new file.
    put(path, contents.as_ref(), 0o644, there)
}

fn put(path: &Path, contents: &[u8], mode: u32, permissions: Option<Permissions>) -> Result<()> {
    let folder = folder_of(path);
    let written = || -> io::Result<()> {
        let mut beside = unfinished_in(folder, mode)?;
        if let Some(permissions) = permissions {
            beside.as_file().set_permissions(permissions)?;
        }
        beside.write_all(contents)?;
        beside.as_file().sync_all()?;
        beside.persist(path)?;
        Ok(())
    };
    explained(written(), path)?;
    sync_folder(folder)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// As [`replace`], and makes the folder where it is missing. A file with these contents is left alone, so that a reader
/// always sees it whole.
pub fn keep(path: &Path, contents: &str) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == contents.as_bytes()) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        create_folder(folder)?;
    }
    replace(path, contents)
}

/// Makes a file that only its owner can read, in a folder that nobody else knows yet. Fails where the file exists.
///
/// The file is synced, its folder is not: see [`sync_folder`].
pub fn create(path: &Path, contents: &str) -> Result<()> {
    let written = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        give_to_owner_of(folder_of(path), &file)?;
        file.write_all(contents.as_bytes())?;
        file.sync_all()
    };
    explained(written(), path)
}

/// Writes a file that can be made again, and its folders; others may read it and not write. It is not synced.
pub fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    let folder = folder_of(path);
    create_folder(folder)?;
    let written = || -> io::Result<()> {
        // Root must not write through a link that the folder's owner planted.
        let no_link = OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o644).custom_flags(no_link);
        let mut file = options.open(path)?;
        give_to_owner_of(folder, &file)?;
        file.write_all(contents.as_ref())
    };
    explained(written(), path)
}

fn explained<T>(written: io::Result<T>, path: &Path) -> Result<T> {
    written.map_err(|error| {
        let failure = Failure::user(format!("cannot write {}", path.display()));
        hinted(failure, path, &error).because(error).into()
    })
}

/// Deletes a file and returns whether there was one.
pub fn remove(path: &Path) -> Result<bool> {
    let removed = existing(fs::remove_file(path));
    Ok(removed.explain(|| Failure::user(format!("cannot remove {}", path.display())))?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::read;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_replaced_file_is_private_and_nothing_lies_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("value");
        fs::write(&path, "old").unwrap();
        replace(&path, "new").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("new"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(remove(&path).unwrap());
        assert!(!remove(&path).unwrap());
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn a_file_that_others_read_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = dir.path().join("flake.lock");
        fs::write(&path, "old").unwrap();
        for before in [0o664, 0o600] {
            fs::set_permissions(&path, fs::Permissions::from_mode(before)).unwrap();
            replace_shared(&path, "new").unwrap();
            assert_eq!((mode(&path), read(&path).unwrap().as_deref()), (before, Some("new")));
        }
        let new = dir.path().join("new");
        replace_shared(&new, "").unwrap();
        fs::write(dir.path().join("other"), "").unwrap();
        assert_eq!(mode(&new), mode(&dir.path().join("other")) & 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
