//! A copy of a volume that needs no other volume.
//!
//! libvirt has `qemu-img` make it, which writes a header first: killed half
//! way, it leaves what looks whole. So the copy is made in a part, its header is
//! taken off, and from there it goes the way of `put`: a name that is there
//! with a header is whole.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use virt::storage_vol::StorageVol;

use super::Pool;
use super::put::{HEAD, Part, Stored};
use super::sparse::{beginning, overwrite};
use super::xml::volume_xml;
use crate::error::{Explain, Failure, Result};
use crate::interrupt;
use crate::libvirt::{Say, said};
use crate::model::Size;
use crate::model::volume::{VolumeFormat, VolumeSpec};

/// How often a copy looks up for an interruption.
const POLL: Duration = Duration::from_millis(200);

impl Pool {
    /// Makes the volume `name`, qcow2 and on no other, with what `from` and all that it lies on show, unless it is there already.
    ///
    /// No guest may write to `from`. It takes its space twice for as long as it lasts, unless the file system shares
    /// blocks. libvirt cannot be stopped in the middle: after an interruption it goes on, and what it makes is deleted
    /// by a later [`Pool::put`] or `duplicate`.
    ///
    /// # Errors
    /// `from` or what it lies on is missing, the pool has no space, libvirt fails, or an interruption.
    pub fn duplicate(&self, name: &str, from: &str) -> Result<Stored> {
        let say = || self.cannot(&format!("make `{name}` as a copy of"), from);
        if self.settle(name)? {
            return Ok(Stored::Present);
        }
        let chain = self.chain(from)?;
        self.require_space(2 * chain.iter().map(|link| link.allocation).sum::<u64>(), name)?;

        let part = Part::of(self, name);
        self.convert(&part.name, from, chain.first().map_or(0, |link| link.capacity)).explain(say)?;
        let volume = self.part(&part.name)?;
        self.sweep(&volume).say(say)?;
        let head = beginning(&self.connection, &volume, HEAD as usize).say(say)?;
        overwrite(&self.connection, &volume, &vec![0; head.len()]).explain(say)?;
        // libvirt would take it for qcow2 still, and convert it.
        self.refresh()?;
        let volume = self.part(&part.name)?;
        let length = volume.info().say(say)?.capacity;
        self.complete(&volume, name, length, &head)
    }

    fn part(&self, part: &str) -> Result<StorageVol> {
        let say = || self.cannot("look at", part);
        self.volume(part).say(say)?.ok_or_else(|| say().because(Failure::user("it is gone")).into())
    }

    /// Has libvirt make the volume `name` of what `from` shows.
    fn convert(&self, name: &str, from: &str, capacity: u64) -> Result<()> {
        let xml = volume_xml(&VolumeSpec {
            name: name.to_owned(),
            capacity: Size::from_bytes(capacity),
            format: VolumeFormat::Qcow2,
            backing: None,
        })?;
        let say = || self.cannot("read", from);
        let source = self.pool.lookup_storage_vol_by_name(from).say(say)?;
        let pool = self.pool.clone();
        let (done, made) = mpsc::channel();
        // A thread of its own, as the call returns only at the end; it is left behind at an interruption.
        std::thread::spawn(move || {
            let _ = done.send(StorageVol::create_xml_from(&pool, &xml, &source, 0).map(drop));
        });
        loop {
            match made.recv_timeout(POLL) {
                Ok(made) => return made.map_err(|error| said(&error)),
                Err(RecvTimeoutError::Timeout) => interrupt::check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::bug("the thread that copies a volume died").into());
                }
            }
        }
    }
}
