//! Files that are being written beside their places, and what is left of them when a nixvm was killed.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};
use tempfile::NamedTempFile;

/// What stands around so many random characters in the names of files that are not finished.
const BEGINNING: &str = ".nixvm-";
const ENDING: &str = ".tmp";
const RANDOM: usize = 16;

/// Returns a new file in the folder with that mode from its first moment, locked as long as somebody writes it.
///
/// Those that writers left behind which were killed are removed: they may hold secrets, and be in the way of whoever removes
/// the folder.
///
/// # Errors
/// The folder cannot be written.
pub(super) fn create_in(folder: &Path, mode: u32) -> std::io::Result<NamedTempFile> {
    // What cannot be removed is in nobody's way here.
    let _ = sweep(folder);
    loop {
        let mut named = tempfile::Builder::new();
        named.prefix(BEGINNING).suffix(ENDING).rand_bytes(RANDOM);
        let file = named.permissions(fs::Permissions::from_mode(mode)).tempfile_in(folder)?;
        // On a file system without locks nobody finds out that it may be removed.
        let _ = flock(file.as_file(), FlockOperation::NonBlockingLockExclusive);
        // Another process may have swept it before it was locked.
        if file.path().exists() {
            return Ok(file);
        }
    }
}

/// Removes from the folder the files that nixvms which were killed left unfinished; those that are being written, and whatever
/// is called otherwise, stay.
///
/// # Errors
/// The folder cannot be read, or one of them not be removed.
pub fn sweep(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !is_unfinished(entry.file_name().as_encoded_bytes()) || !entry.file_type()?.is_file() {
            continue;
        }
        let no_link = OFlags::NOFOLLOW.bits().cast_signed();
        // One of another user's, or gone meanwhile, is not ours to remove.
        let Ok(file) = OpenOptions::new().read(true).custom_flags(no_link).open(entry.path()) else {
            continue;
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Returns whether a file of that name is one of nixvm's that is not finished.
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
        fs::create_dir(path(".nixvm-fedcba9876543210.tmp")).unwrap();
        let living = create_in(dir.path(), 0o600).unwrap();
        create_in(dir.path(), 0o600).unwrap().persist(path("value")).unwrap();
        assert!(living.path().exists());
        drop(living);
        let names =
            fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        let mut expected = [&stay[..], &[".nixvm-fedcba9876543210.tmp", "value"]].concat();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }
}
