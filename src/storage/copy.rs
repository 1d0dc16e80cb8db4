//! A copy of a volume that needs no other volume.
//!
//! libvirt would have `qemu-img` make it, which everybody can read until it is
//! done, says nothing of how far it is and cannot be stopped. So QEMU fills an
//! empty volume that is there already, as it does for a backup. A header is in
//! that from the beginning: it is a part until it is full, the header is taken
//! off, and from there it goes the way of `put`.

use std::time::Duration;

use super::Pool;
use super::put::{HEAD, Part, Stored};
use super::sparse::{beginning, overwrite};
use crate::error::{Explain, Result};
use crate::libvirt::Say;

/// How long the copies of other commands are waited for.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

impl Pool {
    /// Makes the volume `name`, qcow2 and on no other, with what `from`, in this pool or another
    /// of the same host, and all that it lies on show, unless it is there already.
    ///
    /// `copy` is given two absolute paths of images, and fills the second, which is empty, with what the first shows. No
    /// guest may write to `from` meanwhile. The copy takes its space twice at its end, unless the file system shares
    /// blocks.
    ///
    /// # Errors
    /// `from` or what it lies on is missing, the pool has no space, libvirt fails, or an error of `copy`.
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

        let part = Part::of(self, name);
        self.blank(&part.name, chain.first().map_or(0, |link| link.capacity))?;
        let (there, here) = (source.path()?, self.path()?);
        copy(&format!("{there}/{from}"), &format!("{here}/{}", part.name)).explain(say)?;
        self.adopt(&part, name)
    }

    /// Makes the volume `name` of a part that is a whole image, header and all.
    fn adopt(&self, part: &Part<'_>, name: &str) -> Result<Stored> {
        let say = || self.cannot("store", name);
        let volume = self.pool.lookup_storage_vol_by_name(&part.name).say(say)?;
        let head = beginning(&self.connection, &volume, HEAD as usize).say(say)?;
        overwrite(&self.connection, &volume, &vec![0; head.len()]).explain(say)?;
        // libvirt would take it for qcow2 still, as long as it was, and have `qemu-img` copy it. A copy of another command
        // may be as large as this one, which is not thrown away for that.
        self.refresh_within(PATIENCE)?;
        let volume = self.pool.lookup_storage_vol_by_name(&part.name).say(say)?;
        let length = volume.info().say(say)?.capacity;
        self.complete(&volume, name, length, &head)
    }
}
