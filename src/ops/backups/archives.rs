//! `backups` and `verify-backup`: lists archives, and verifies one with all that it adds to.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::backup::{self, Archive, ArchiveName, State};
use crate::error::{Failure, Result};
use crate::host::Watch;
use crate::model::MachineName;
use crate::work::archives::{chain, verify};

#[derive(Debug, Clone, Serialize)]
pub struct ListedBackup {
    pub machine: MachineName,
    #[serde(serialize_with = "crate::model::path::text")]
    pub file: PathBuf,
    /// The instant of its data, in seconds since 1970.
    pub taken: u64,
    pub bytes: u64,
    /// `None` where it cannot be read.
    pub contents: Option<Contents>,
    /// What is wrong with it, or with the archives that it adds to.
    pub fault: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Contents {
    pub generation: u32,
    pub state: State,
    pub parent: Option<String>,
    /// How many archives it takes to restore it, itself included.
    pub chain: usize,
}

/// Returns the archives in a folder, of one machine or of all, the oldest first. Of each only the beginning is read; one that
/// cannot be read is listed with a fault.
pub fn backups(folder: &Path, machine: Option<&MachineName>) -> Result<Vec<ListedBackup>> {
    Ok(backup::list(folder, machine)?.into_iter().map(|name| listed(folder, name)).collect())
}

fn listed(folder: &Path, name: ArchiveName) -> ListedBackup {
    let file = folder.join(name.to_string());
    let bytes = std::fs::metadata(&file).map_or(0, |metadata| metadata.len());
    let said = |error: &anyhow::Error| format!("{error:#}");
    let (contents, fault) = match Archive::open(&file) {
        Err(error) => (None, Some(said(&error))),
        Ok(archive) => {
            let about = &archive.manifest().about;
            let chain = chain(&file);
            let contents = Contents {
                generation: about.generation.number,
                state: about.state,
                parent: about.parent.as_ref().map(|parent| parent.archive.to_string()),
                chain: chain.as_ref().map_or(0, Vec::len),
            };
            (Some(contents), chain.err().as_ref().map(said))
        }
    };
    ListedBackup { machine: name.machine, taken: name.taken.unix(), file, bytes, contents, fault }
}

#[derive(Debug, Clone, Serialize)]
pub struct VerifiedBackup {
    pub machine: MachineName,
    /// The instant of its data, in seconds since 1970.
    pub taken: u64,
    /// The files that it adds to, and its own last.
    #[serde(serialize_with = "crate::model::path::texts")]
    pub files: Vec<PathBuf>,
    /// Bytes that were read and compared, uncompressed.
    pub bytes: u64,
}

/// Reads an archive and all that it adds to, and compares every byte with the manifests.
pub fn verify_backup(path: &Path, watch: &dyn Watch) -> Result<VerifiedBackup> {
    let chain = chain(path)?;
    let bytes = verify(&chain, watch)?;
    let about = chain.last().map(|archive| &archive.manifest().about);
    let about = about.ok_or_else(|| Failure::bug("a chain of no archives"))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let below = chain.iter().filter_map(|archive| archive.manifest().about.parent.as_ref());
    let mut files: Vec<PathBuf> = below.map(|parent| folder.join(parent.archive.to_string())).collect();
    files.push(path.to_owned());
    Ok(VerifiedBackup { machine: about.machine.clone(), taken: about.created.unix(), files, bytes })
}
