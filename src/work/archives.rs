//! Archives that add to one another.

use std::path::Path;

use crate::backup::Archive;
use crate::error::{Explain, Failure, Result};
use crate::host::Watch;
use crate::interrupt;

/// Most archives in a chain: each becomes a layer of the restored disk, and all of them have to be kept.
pub const LONGEST_CHAIN: usize = 16;

/// Returns the archive at `path` behind all those in its folder that it adds to, the full one first.
///
/// Only their beginnings are read: each names its parent by the digest of that one's manifest.
pub fn chain(path: &Path) -> Result<Vec<Archive>> {
    let mut chain = vec![Archive::open(path)?];
    let folder = path.parent().unwrap_or(Path::new(""));
    while let Some(parent) = chain.last().and_then(|above| above.manifest().about.parent.clone()) {
        let cannot = || {
            Failure::user(format!("the archive {} cannot be restored", path.display())).hint(format!(
                "it holds only what changed since `{}`; put that archive beside it",
                parent.archive
            ))
        };
        if chain.len() == LONGEST_CHAIN {
            let long = Failure::user(format!("it adds to more than {} others", LONGEST_CHAIN - 1));
            return Err(cannot().because(long).into());
        }
        let below = Archive::open(&folder.join(parent.archive.to_string())).explain(cannot)?;
        if below.checksum() != parent.manifest {
            let other = Failure::user(format!("`{}` is not the archive that it adds to", parent.archive));
            return Err(cannot().because(other).into());
        }
        chain.push(below);
    }
    chain.reverse();
    Ok(chain)
}

/// Compares every byte of these archives with their manifests, and returns how many bytes there are, uncompressed.
pub fn verify(chain: &[Archive], watch: &dyn Watch) -> Result<u64> {
    let mut bytes = 0;
    for archive in chain {
        let about = &archive.manifest().about;
        watch.step(&format!("Verifying the archive of {} from {}", about.machine, about.created));
        archive.verify(&mut |progress| {
            watch.bytes(progress.done, progress.total);
            interrupt::check()
        })?;
        bytes += archive.manifest().members.iter().map(|member| member.size).sum::<u64>();
    }
    Ok(bytes)
}
