//! Incremental backups, which add to one another.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::backup::{self, Archive, Parent};
use crate::error::Result;
use crate::hypervisor::{CHECKPOINTS, Owned};
use crate::model::Machine;
use crate::work::archives::{self, LONGEST_CHAIN};

/// The incremental backups of a machine in one folder.
pub(super) struct Series {
    /// The beginning of its checkpoints' names, different for each folder, so that backups to two folders do not interfere.
    pub(super) prefix: String,
    /// The newest archive whose checkpoint the domain has, and that checkpoint.
    pub(super) parent: Option<(Parent, String)>,
}

impl Series {
    pub(super) fn find(folder: &Path, machine: &Machine, domain: &Owned) -> Result<Self> {
        let place = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let digest = Sha256::digest(place.as_os_str().as_encoded_bytes());
        let prefix = format!("{CHECKPOINTS}{}-", &format!("{digest:x}")[..8]);
        let checkpoints = domain.checkpoints()?;
        let parent = backup::list(folder, Some(&machine.name))?.into_iter().rev().find_map(|name| {
            let path = folder.join(name.to_string());
            let archive = Archive::open(&path).ok()?;
            let about = &archive.manifest().about;
            let checkpoint = about.checkpoint.clone().filter(|name| checkpoints.contains(name))?;
            let parent = Parent { archive: name, manifest: archive.checksum() };
            (about.machine_id == machine.machine_id).then_some((parent, checkpoint, path))
        });
        // An archive that cannot be restored itself, or whose chain is as long as it may be, is not added to.
        let sound = |path: &Path| archives::chain(path).is_ok_and(|chain| chain.len() < LONGEST_CHAIN);
        let parent =
            parent.filter(|(.., path)| sound(path)).map(|(parent, checkpoint, _)| (parent, checkpoint));
        Ok(Series { prefix, parent })
    }

    /// Deletes the checkpoints of this folder's backups, except the newest.
    pub(super) fn sweep(&self, domain: &Owned, newest: Option<&String>) -> Result<()> {
        let parent = self.parent.as_ref().map(|(_, checkpoint)| checkpoint);
        for checkpoint in domain.checkpoints()? {
            let of_series = checkpoint.starts_with(&self.prefix) || Some(&checkpoint) == parent;
            if of_series && Some(&checkpoint) != newest {
                domain.delete_checkpoint(&checkpoint)?;
            }
        }
        Ok(())
    }
}
