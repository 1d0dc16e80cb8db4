//! Giving what root makes to the owner of the folder that it is in.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Uid, chownat, fchown};
use rustix::process::geteuid;
use walkdir::WalkDir;

use crate::error::{Explain, Failure, Result};

/// Gives an open file that root made to the owner of its folder.
pub fn give_to_owner_of(folder: &Path, file: impl AsFd) -> std::io::Result<()> {
    let Some((user, group)) = owner_to_be(folder)? else { return Ok(()) };
    let its = rustix::fs::fstat(&file)?;
    let is_folder = rustix::fs::FileType::from_raw_mode(its.st_mode).is_dir();
    // A hard link may be a trap that gives away another file of root's.
    if its.st_uid == 0 && (is_folder || its.st_nlink < 2) {
        fchown(file, Some(user), Some(group))?;
    }
    Ok(())
}

/// Gives a file that another program made for root to the owner of its folder; of a link the link itself.
pub fn give_to_owner(path: &Path) -> Result<()> {
    give(path, WalkDir::new(path).max_depth(0).follow_root_links(false))
}

/// Gives a folder that root made with [`super::private_folder_in`], and all its contents, to the owner of its parent.
pub fn give_folder_to_owner(path: &Path) -> Result<()> {
    // The folder itself comes last: until then nobody else can enter it and plant links.
    give(path, WalkDir::new(path).contents_first(true))
}

fn give(path: &Path, all: WalkDir) -> Result<()> {
    let cannot = || Failure::user(format!("cannot change the owner of {}", path.display()));
    let folder = path.parent().unwrap_or(Path::new("."));
    let Some((user, group)) = owner_to_be(folder).explain(cannot)? else { return Ok(()) };
    for entry in all {
        let entry = entry.explain(cannot)?;
        chownat(CWD, entry.path(), Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW).explain(cannot)?;
    }
    Ok(())
}

/// Returns the owner to give a new file to; `None` where it already belongs to the right one.
fn owner_to_be(folder: &Path) -> std::io::Result<Option<(Uid, Gid)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let owner = fs::metadata(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?;
    Ok((owner.uid() != 0).then(|| (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()))))
}

/// Adds a hint where the file, or the nearest existing folder above it, belongs to another user.
pub fn hinted(failure: Failure, path: &Path, error: &std::io::Error) -> Failure {
    let me = geteuid();
    let there = path.ancestors().find_map(|path| Some((path, fs::symlink_metadata(path).ok()?)));
    match there {
        Some((place, metadata)) if error.kind() == ErrorKind::PermissionDenied && metadata.uid() != me.as_raw() => failure
            .hint(format!(
                "{} belongs to user {}, and you are user {}: `nixvm doctor` lists the files that do not belong to the workspace's owner, and how to fix that",
                place.display(),
                metadata.uid(),
                me.as_raw(),
            )),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{create, create_private_folder, replace, write};

    #[test]
    fn what_root_makes_belongs_to_the_owner_of_its_folder() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(4242), Some(4243)).unwrap();
        create_private_folder(&home.join("a/b")).unwrap();
        create(&home.join("a/b/created"), "x").unwrap();
        replace(&home.join("a/b/replaced"), "x").unwrap();
        write(&home.join("c/d/written"), "x").unwrap();
        // Traps that a folder's owner may lay: a second name of root's file, and a link to it.
        let roots = dir.path().join("roots");
        fs::write(&roots, "secret").unwrap();
        std::os::unix::fs::symlink(&roots, home.join("trap")).unwrap();
        assert!(write(&home.join("trap"), "x").is_err());
        fs::remove_file(home.join("trap")).unwrap();
        fs::hard_link(&roots, home.join("trap")).unwrap();
        write(&home.join("trap"), "x").unwrap();
        assert_eq!(fs::metadata(&roots).unwrap().uid(), 0);
        fs::remove_file(home.join("trap")).unwrap();
        std::os::unix::fs::symlink("/nonexistent", home.join("link")).unwrap();
        give_to_owner(&home.join("link")).unwrap();
        let mut seen = 0;
        for entry in walkdir::WalkDir::new(&home).into_iter().map(|entry| entry.unwrap()) {
            let metadata = entry.path().symlink_metadata().unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (4242, 4243), "{}", entry.path().display());
            seen += 1;
        }
        assert_eq!(seen, 9);
    }

    #[test]
    fn a_file_of_somebody_elses_is_told_from_other_faults() {
        let denied = std::io::Error::from(ErrorKind::PermissionDenied);
        let hints = |path: &str, error: &std::io::Error| {
            let error = hinted(Failure::user("cannot write it"), Path::new(path), error).into();
            crate::error::Report::of(&error).hints
        };
        if geteuid().is_root() {
            return;
        }
        assert!(hints("/nonexistent/x", &denied)[0].starts_with("/ belongs to user 0, and you are user "));
        assert!(hints("/x", &std::io::Error::from(ErrorKind::StorageFull)).is_empty());
    }
}
