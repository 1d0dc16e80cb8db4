//! Files that are read with care and written whole or not at all.
//!
//! What root makes belongs to whoever owns the folder that it is in: `sudo nixvm` must not lock the owner of a workspace out
//! of it. So whatever makes a file or a folder there does it here, with a mode of its own: a umask of 000 opens nothing to all.

mod unfinished;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, Uid, chownat, fchown, renameat_with};
use rustix::process::geteuid;
use tempfile::NamedTempFile;

use crate::error::{Explain, Failure, Result};

pub use unfinished::{UnfinishedFolder, sweep};

/// Largest file that is read into memory, in bytes; what people write by hand stays far below.
const LARGEST: u64 = 1 << 20;

/// Returns the text of a file, `None` if there is none.
///
/// # Errors
/// It cannot be read, is no regular file, has more than 1 MiB or is not UTF-8.
pub fn read(path: &Path) -> Result<Option<String>> {
    let shown = path.display();
    let cannot = || Failure::user(format!("cannot read {shown}"));
    // Opening a FIFO would else wait for somebody to write into it.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(nonblocking).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(hinted(cannot(), path, &error).because(error).into()),
    };
    let metadata = file.metadata().explain(cannot)?;
    if !metadata.is_file() {
        return Err(Failure::user(format!("{shown} is not a regular file")).into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(LARGEST)).unwrap_or_default() + 1);
    file.take(LARGEST + 1).read_to_end(&mut bytes).explain(cannot)?;
    if bytes.len() as u64 > LARGEST {
        return Err(
            Failure::user(format!("{shown} has more than 1 MiB, and is not what it should be")).into()
        );
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|b| *b == b'\n').count();
        Failure::user(format!("{shown}, line {line}, is not UTF-8 text"))
            .hint("save the file as UTF-8, without binary data")
            .into()
    })
}

/// Gives a file new contents, readable by its owner only.
///
/// They are written beside it, synced and renamed: whatever dies in between, the file is the old one or the new one.
///
/// # Errors
/// The folder cannot be written, or is full.
pub fn replace(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = || -> std::io::Result<()> {
        let mut beside = unfinished_in(folder, 0o600)?;
        beside.write_all(contents.as_ref())?;
        beside.as_file().sync_all()?;
        beside.persist(path)?;
        Ok(())
    };
    explained(written(), path)?;
    sync_folder(folder)
}

/// Returns a new file in the folder to be renamed to its place, with that mode from its first moment; it is the folder owner's.
///
/// # Errors
/// The folder cannot be written.
pub fn unfinished_in(folder: &Path, mode: u32) -> std::io::Result<NamedTempFile> {
    let file = unfinished::create_in(folder, mode)?;
    give_to_owner_of(folder, file.as_file())?;
    Ok(file)
}

/// Gives a file that is no secret new contents, as [`replace`] does; others may read it as they could before, or as the
/// process's umask says.
///
/// # Errors
/// As [`replace`].
pub fn replace_shared(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    let cannot = || Failure::user(format!("cannot write {}", path.display()));
    let folder = path.parent().unwrap_or(Path::new("."));
    let there = fs::metadata(path).ok().map(|file| file.permissions());
    // What a temporary file asks for is cut down by the umask, as it is for any new file.
    let mut beside = unfinished_in(folder, 0o644).explain(cannot)?;
    if let Some(there) = there {
        beside.as_file().set_permissions(there).explain(cannot)?;
    }
    beside.write_all(contents.as_ref()).explain(cannot)?;
    beside.as_file().sync_all().explain(cannot)?;
    beside.persist(path).explain(cannot)?;
    sync_folder(folder)
}

/// Gives a file these contents, readable by its owner only, in a folder that is made where it is missing; one that has them is
/// left alone, so that whoever reads it meanwhile sees them whole.
///
/// # Errors
/// The folder cannot be made or written, or is full.
pub fn keep(path: &Path, contents: &str) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == contents.as_bytes()) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        create_folder(folder)?;
    }
    replace(path, contents)
}

/// Makes a file that only its owner reads, in a folder that is itself not there yet for anybody else.
///
/// The file is synced, its folder is not: see [`sync_folder`].
///
/// # Errors
/// There is a file; the folder cannot be written, or is full.
pub fn create(path: &Path, contents: &str) -> Result<()> {
    let written = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        give_to_owner_of(path.parent().unwrap_or(Path::new(".")), &file)?;
        file.write_all(contents.as_bytes())?;
        file.sync_all()
    };
    explained(written(), path)
}

/// Writes a file that can be made again, and the folders that it needs; others may read it, and not write. It is not synced.
///
/// # Errors
/// The folder cannot be written, or is full.
pub fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    create_folder(folder)?;
    let written = || -> std::io::Result<()> {
        // Root must not write through a link that the folder's owner laid.
        let no_link = OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o644).custom_flags(no_link);
        let mut file = options.open(path)?;
        give_to_owner_of(folder, &file)?;
        file.write_all(contents.as_ref())
    };
    explained(written(), path)
}

/// Gives what root made (a file that is open) to the owner of the folder that it is in.
///
/// # Errors
/// The folder cannot be looked at, or its file system knows no owners.
pub fn give_to_owner_of(folder: &Path, file: impl AsFd) -> std::io::Result<()> {
    let Some((user, group)) = owner_to_be(folder)? else { return Ok(()) };
    let its = rustix::fs::fstat(&file)?;
    let is_folder = rustix::fs::FileType::from_raw_mode(its.st_mode).is_dir();
    // A second name of a file may be a trap: root's own would be given away.
    if its.st_uid == 0 && (is_folder || its.st_nlink < 2) {
        fchown(file, Some(user), Some(group))?;
    }
    Ok(())
}

/// Gives what another program made for root (a file or a link, not what it leads to) to the owner of the folder that it is in.
///
/// # Errors
/// It is not there.
pub fn give_to_owner(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let given = || -> std::io::Result<()> {
        match owner_to_be(folder)? {
            Some((user, group)) => {
                Ok(chownat(CWD, path, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?)
            }
            None => Ok(()),
        }
    };
    given().explain(|| Failure::user(format!("cannot change the owner of {}", path.display())))
}

/// Gives a folder that root made with [`private_folder_in`], and all in it, to the owner of the folder that it is in.
///
/// # Errors
/// Something in it cannot be looked at.
pub fn give_folder_to_owner(path: &Path) -> Result<()> {
    let cannot = || Failure::user(format!("cannot change the owner of {}", path.display()));
    let Some((user, group)) = owner_to_be(path.parent().unwrap_or(Path::new("."))).explain(cannot)? else {
        return Ok(());
    };
    // The folder itself is the last: until then nobody else can enter it and lay links.
    for entry in walkdir::WalkDir::new(path).contents_first(true) {
        let entry = entry.explain(cannot)?;
        chownat(CWD, entry.path(), Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW).explain(cannot)?;
    }
    Ok(())
}

/// Returns whom something in a folder has to be given; `None` where it is theirs already.
fn owner_to_be(folder: &Path) -> std::io::Result<Option<(Uid, Gid)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let owner = fs::metadata(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?;
    Ok((owner.uid() != 0).then(|| (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()))))
}

fn explained<T>(written: std::io::Result<T>, path: &Path) -> Result<T> {
    written.map_err(|error| {
        let failure = Failure::user(format!("cannot write {}", path.display()));
        hinted(failure, path, &error).because(error).into()
    })
}

/// Adds to a failure what to do about a file, or the nearest folder that is there, that belongs to somebody else.
pub fn hinted(failure: Failure, path: &Path, error: &std::io::Error) -> Failure {
    let me = geteuid();
    let there = path.ancestors().find_map(|path| Some((path, fs::symlink_metadata(path).ok()?)));
    match there {
        Some((place, metadata)) if error.kind() == ErrorKind::PermissionDenied && metadata.uid() != me.as_raw() => failure
            .hint(format!(
                "{} belongs to user {}, and you are user {}: `nixvm doctor` lists what is not the workspace owner's, and how to give it back",
                place.display(),
                metadata.uid(),
                me.as_raw(),
            )),
        _ => failure,
    }
}

/// Makes sure that what was renamed or removed in a folder stays so after a power cut.
///
/// # Errors
/// The folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|opened| opened.sync_all())
        .explain(|| Failure::user(format!("cannot sync {}", folder.display())))
}

/// Makes a folder that only its owner enters, and those above it; one that exists is left as it is.
///
/// # Errors
/// It cannot be made.
pub fn create_private_folder(path: &Path) -> Result<()> {
    make_folders(path, 0o700)
}

/// Makes a folder, and those above it, that others may enter but not change; one that exists is left as it is.
///
/// # Errors
/// It cannot be made.
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
            // Another nixvm was quicker.
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

/// Makes a folder that only its owner enters, under a name of its own in `folder`; it goes with the value, or with the next that
/// is made there, should this process be killed.
///
/// # Errors
/// It cannot be made.
pub fn private_folder_in(folder: &Path) -> Result<UnfinishedFolder> {
    UnfinishedFolder::create_in(folder)
        .explain(|| Failure::user(format!("cannot make a folder in {}", folder.display())))
}

/// Puts the folder `new` at `target`, in place of what is there, which is at `new` afterwards or gone.
///
/// Another process that does the same wins or loses as a whole; a file system that cannot swap two folders shows none for a
/// moment.
///
/// # Errors
/// A folder cannot be renamed.
pub fn replace_folder(new: &Path, target: &Path) -> Result<()> {
    let cannot = || Failure::user(format!("cannot put a folder at `{}`", target.display()));
    let rename = |flags| renameat_with(CWD, new, CWD, target, flags);
    if fs::symlink_metadata(target).is_ok() && rename(RenameFlags::EXCHANGE).is_ok() {
        return Ok(());
    }
    let old = private_folder_in(target.parent().unwrap_or(Path::new(".")))?;
    let _ = fs::rename(target, old.path().join("old"));
    match rename(RenameFlags::NOREPLACE) {
        // Another nixvm has just put its own there.
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(_) => fs::rename(new, target).explain(cannot),
    }
}

/// Returns the bytes that are free for this user on the file system of a folder.
///
/// # Errors
/// It cannot be looked at.
pub fn free_space(folder: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(folder)
        .explain(|| Failure::user(format!("cannot tell the free space in {}", folder.display())))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Removes a file; one that is not there is removed already. Returns whether there was one.
///
/// # Errors
/// It cannot be removed.
pub fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::user(format!("cannot remove {}", path.display())).because(error).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn what_is_no_text_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("value");
        fs::write(&path, b"one\ntwo \xff\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().ends_with("value, line 2, is not UTF-8 text"));
        fs::write(&path, vec![b'x'; (1 << 20) + 1]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("more than 1 MiB"));
        assert!(read(dir.path()).unwrap_err().to_string().ends_with("is not a regular file"));
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(read(&fifo).unwrap_err().to_string().ends_with("is not a regular file"));
    }

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
