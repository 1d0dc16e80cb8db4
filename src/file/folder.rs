//! Folders.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, renameat_with};

use super::owner::{give_to_owner_of, hinted};
use super::read::existing;
use super::unfinished::UnfinishedFolder;
use crate::error::{Explain, Failure, Result};

/// Makes renames and deletions in a folder survive a power cut.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|opened| opened.sync_all())
        .explain(|| Failure::user(format!("cannot sync {}", folder.display())))
}

/// Makes a folder that only its owner may enter, and its parents; an existing one is left as it is.
pub fn create_private_folder(path: &Path) -> Result<()> {
    make_folders(path, 0o700)
}

/// Makes a folder, and its parents, that others may enter but not change; an existing one is left as it is.
pub fn create_folder(path: &Path) -> Result<()> {
    make_folders(path, 0o755)
}

fn make_folders(path: &Path, mode: u32) -> Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    make_folders(folder, mode)?;
    let made = || -> std::io::Result<()> {
        match DirBuilder::new().mode(mode).create(path) {
            // Another nixvm has just made it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
            made => made?,
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        give_to_owner_of(folder, rustix::fs::open(path, flags, Mode::empty())?)
    };
    made().map_err(|error| {
        let failure = Failure::user(format!("cannot make the folder {}", path.display()));
        hinted(failure, path, &error).because(error).into()
    })
}

/// Makes a folder with a unique name in `folder` that only its owner may enter. It is deleted with the value, or, if this
/// process is killed, by the next call for the same `folder`.
pub fn private_folder_in(folder: &Path) -> Result<UnfinishedFolder> {
    UnfinishedFolder::create_in(folder)
        .explain(|| Failure::user(format!("cannot make a folder in {}", folder.display())))
}

/// Removes a folder with everything in it, if it exists.
pub fn remove_folder(folder: &Path) -> Result<()> {
    let cannot = || Failure::user(format!("cannot remove `{}`", folder.display()));
    existing(fs::remove_dir_all(folder)).explain(cannot).map(drop)
}

/// Moves the folder `new` to `target`. The old contents are at `new` afterwards, or gone.
///
/// Of two processes that do this at once, one wins as a whole. On a file system that cannot swap two folders, `target` is
/// missing for a moment.
pub fn replace_folder(new: &Path, target: &Path) -> Result<()> {
    let cannot = || Failure::user(format!("cannot put a folder at `{}`", target.display()));
    let rename = |flags| renameat_with(CWD, new, CWD, target, flags);
    if fs::symlink_metadata(target).is_ok() && rename(RenameFlags::EXCHANGE).is_ok() {
        return Ok(());
    }
    let old = private_folder_in(target.parent().unwrap_or(Path::new(".")))?;
    let _ = fs::rename(target, old.path().join("old"));
    match rename(RenameFlags::NOREPLACE) {
        // Another nixvm has just put its folder there.
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(_) => fs::rename(new, target).explain(cannot),
    }
}

/// Returns the bytes that this user may still write to the file system of a folder.
pub fn free_space(folder: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(folder)
        .explain(|| Failure::user(format!("cannot tell the free space in {}", folder.display())))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Checks that a folder has space for so many bytes. `flag` is the option that names another folder.
pub fn require_space(folder: &Path, bytes: u64, what: &str, flag: &str) -> Result<()> {
    let free = free_space(folder)?;
    if bytes <= free {
        return Ok(());
    }
    let [need, have] = [bytes, free].map(|bytes| bytes.div_ceil(1 << 20));
    Err(Failure::user(format!(
        "{} may be too small for {what}, which can take {need} MiB: {have} MiB are free",
        folder.display()
    ))
    .hint(format!("free space there, or choose another folder with `{flag}`"))
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_takes_the_place_of_another_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        for text in ["first", "second"] {
            let new = private_folder_in(dir.path()).unwrap();
            fs::write(new.path().join(text), text).unwrap();
            replace_folder(new.path(), &target).unwrap();
            let there: Vec<_> =
                fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(there, [text]);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the old one is left");
        // A link is replaced, and nothing that it leads to.
        let precious = tempfile::tempdir().unwrap();
        fs::write(precious.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink(precious.path(), dir.path().join("link")).unwrap();
        let new = private_folder_in(dir.path()).unwrap();
        replace_folder(new.path(), &dir.path().join("link")).unwrap();
        assert!(dir.path().join("link").symlink_metadata().unwrap().is_dir());
        drop(new);
        assert!(precious.path().join("file").exists());
    }
}
