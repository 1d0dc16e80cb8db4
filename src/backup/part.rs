//! An archive that is being written.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tempfile::NamedTempFile;

use super::ArchiveName;
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::model::{MachineName, Timestamp};

const BEGINNING: &str = ".nixvm-";
const ENDING: &str = ".part";

pub(super) fn cannot_write(folder: &Path) -> Failure {
    Failure::user(format!("cannot write an archive into {}", folder.display()))
}

/// An unfinished archive: locked while somebody writes it, and deleted when it is dropped.
pub(super) struct PartialArchive(NamedTempFile);

impl PartialArchive {
    /// Makes a part in the folder, readable by its owner only, and deletes the parts of writers that were killed.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        let cannot = || cannot_write(folder);
        let is_part =
            |name: &[u8]| name.starts_with(BEGINNING.as_bytes()) && name.ends_with(ENDING.as_bytes());
        file::sweep_those(folder, |name, kind| kind.is_file() && is_part(name)).explain(cannot)?;
        loop {
            // A temporary file has mode 0600 from the start.
            let part = tempfile::Builder::new()
                .prefix(BEGINNING)
                .suffix(ENDING)
                .tempfile_in(folder)
                .explain(cannot)?;
            flock(part.as_file(), FlockOperation::NonBlockingLockExclusive).explain(cannot)?;
            // Another process may have deleted it before it was locked.
            if part.path().exists() {
                return Ok(PartialArchive(part));
            }
        }
    }

    pub(super) fn file(&self) -> &File {
        self.0.as_file()
    }

    /// Syncs the part and gives it the first free name of its machine from `taken` on.
    ///
    /// Whenever this is interrupted, the archive is whole or does not exist; no other archive is overwritten.
    pub(super) fn finish(
        self,
        folder: &Path,
        machine: &MachineName,
        mut taken: Timestamp,
    ) -> Result<ArchiveName> {
        let cannot = || cannot_write(folder);
        let mut part = self.0;
        part.as_file().sync_all().explain(cannot)?;
        loop {
            let name = ArchiveName { taken, machine: machine.clone() };
            match part.persist_noclobber(folder.join(name.to_string())) {
                Ok(_) => {
                    file::sync_folder(folder)?;
                    return Ok(name);
                }
                Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
                    part = error.file;
                    taken = taken.next().ok_or_else(cannot)?;
                }
                Err(error) => return Err(error).explain(cannot),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_archive_takes_the_next_free_second() {
        let dir = tempfile::tempdir().unwrap();
        let (web, taken) = ("web".parse().unwrap(), "20261231-235959".parse().unwrap());
        for expected in ["web-20261231-235959.tar.zst", "web-20270101-000000.tar.zst"] {
            let name = PartialArchive::create(dir.path()).unwrap().finish(dir.path(), &web, taken).unwrap();
            assert_eq!(name.to_string(), expected);
        }
        assert_eq!(names(dir.path()), ["web-20261231-235959.tar.zst", "web-20270101-000000.tar.zst"]);
        let mode = fs::metadata(dir.path().join("web-20261231-235959.tar.zst")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn what_a_killed_writer_left_goes_and_what_lives_stays() {
        let dir = tempfile::tempdir().unwrap();
        for left in [".nixvm-dead.part", ".nixvm-other", "notes.part"] {
            fs::write(dir.path().join(left), "").unwrap();
        }
        let living = PartialArchive::create(dir.path()).unwrap();
        let second = PartialArchive::create(dir.path()).unwrap();
        assert!(living.0.path().exists());
        drop((living, second));
        assert_eq!(names(dir.path()), [".nixvm-other", "notes.part"]);
    }
}
