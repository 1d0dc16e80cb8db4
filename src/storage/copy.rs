//! A copy of a volume without backing files.
//!
//! libvirt would use `qemu-img`, whose file everybody can read until it is done,
//! and which reports no progress and cannot be stopped. So QEMU fills an existing
//! empty volume, as it does for a backup. That has a header from the beginning, so
//! it is a part until it is full; then its header is taken off, and the steps of
//! `put` follow.

use std::time::Duration;

use super::Pool;
use super::put::{HEAD, PartVolume, Stored};
use super::sparse::{beginning, overwrite};
use crate::error::{Explain, Result};
use crate::libvirt::Say;

/// How long to wait for the copies of other commands.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

impl Pool {
    /// Copies the disk in the volume `from` and its backing files, in this pool or another one of the same host, into the
    /// new qcow2 volume `name`, unless it exists.
    ///
    /// `copy` is given the absolute paths of two images and fills the second, which is empty, with the disk of the first. No
    /// guest may write to `from` meanwhile. At its end the copy takes its space twice, unless the file system shares blocks.
    pub fn duplicate(
        &self,
        name: &str,
        (source, from): (&Pool, &str),
        copy: &mut dyn FnMut(&str, &str) -> Result<()>,
    ) -> Result<Stored> {
        let say = || self.cannot(&format!("make `{name}` as a copy of"), from);
        if self.settle(name)? {
            return Ok(Stored::Present);
        }
        let chain = source.chain(from)?;
        self.require_space(2 * chain.iter().map(|link| link.allocation).sum::<u64>(), name)?;

        let part = PartVolume::of(self, name);
        self.blank(&part.name, chain.first().map_or(0, |link| link.capacity))?;
        let (there, here) = (source.path()?, self.path()?);
        copy(&format!("{there}/{from}"), &format!("{here}/{}", part.name)).explain(say)?;
        self.adopt(&part, name)
    }

    /// Makes the volume `name` from a part that is a whole image, including its header.
    fn adopt(&self, part: &PartVolume<'_>, name: &str) -> Result<Stored> {
        let say = || self.cannot("store", name);
        let volume = self.pool.lookup_storage_vol_by_name(&part.name).say(say)?;
        let head = beginning(&self.connection, &volume, HEAD as usize).say(say)?;
        overwrite(&self.connection, &volume, &vec![0; head.len()]).explain(say)?;
        // Without a refresh libvirt would still take it for an empty qcow2 file, and have `qemu-img` copy it. The refresh may
        // have to wait for another command's copy as large as this one; discarding this one instead would be worse.
        self.refresh_within(PATIENCE)?;
        let volume = self.pool.lookup_storage_vol_by_name(&part.name).say(say)?;
        let length = volume.info().say(say)?.capacity;
        self.complete(&volume, name, length, &head)
    }
}
