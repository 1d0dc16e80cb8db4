//! Files that are read with care and written whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::error::{Explain, Failure, Result};

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
        Err(error) => return Err(cannot().because(error).into()),
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
    let cannot = || Failure::user(format!("cannot write {}", path.display()));
    let folder = path.parent().unwrap_or(Path::new("."));
    // A temporary file has mode 0600 from its first moment.
    let mut beside = tempfile::Builder::new().prefix(".nixvm-").tempfile_in(folder).explain(cannot)?;
    beside.write_all(contents.as_ref()).explain(cannot)?;
    beside.as_file().sync_all().explain(cannot)?;
    beside.persist(path).explain(cannot)?;
    sync_folder(folder)
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
    let asked = fs::Permissions::from_mode(0o644);
    let mut beside =
        tempfile::Builder::new().prefix(".nixvm-").permissions(asked).tempfile_in(folder).explain(cannot)?;
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
        fs::create_dir_all(folder)
            .explain(|| Failure::user(format!("cannot create `{}`", folder.display())))?;
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
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(contents.as_bytes()).and_then(|()| file.sync_all()))
        .explain(|| Failure::user(format!("cannot write {}", path.display())))
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
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .explain(|| Failure::user(format!("cannot make the folder {}", path.display())))
}

/// Makes a folder that only its owner enters, under a new name in `folder` that begins with `prefix`; it goes with the value.
///
/// # Errors
/// It cannot be made.
pub fn private_folder_in(folder: &Path, prefix: &str) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(prefix)
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(folder)
        .explain(|| Failure::user(format!("cannot make a folder in {}", folder.display())))
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
}
