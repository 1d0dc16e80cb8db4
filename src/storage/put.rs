//! How a file becomes a volume that is either whole or recognisably not.
//!
//! libvirt can neither rename nor lock a volume, an upload can be interrupted at any
//! byte, and two nixvms can upload the same base at once. So the first bytes of a
//! volume, its header, mark it as whole, and are written last:
//!
//! 1. The file is uploaded into a volume of another name, `NAME.….part`, except for the first 4 KiB.
//! 2. libvirt copies that to NAME, by reflink if the file system can. libvirt lets only one
//!    process make NAME, lets nothing open it before the copy is done, and syncs the copy to the disk.
//! 3. The first 4 KiB are written to NAME.
//!
//! So a volume that begins with zeros is not whole, whichever process died and
//! whenever; it is no qcow2 file either, so no guest could start from it. The next
//! `put` of that name deletes it and begins again. As step 3 can only write to a
//! complete copy, this holds for any number of writers.
//!
//! These parts are on the disk, and survive a power cut:
//!
//! - after step 2 the name and all but the first 4 KiB (libvirt's `createRawFile` ends with fsync(2), after a reflink too);
//! - after step 3 nothing more, for libvirt does not sync uploads (`virFDStreamThread`; *seen* with 9.0): Linux writes them
//!   within half a minute (`vm.dirty_expire_centisecs`);
//! - after a fourth step, for a machine's data only, the first 4 KiB too: libvirt has `qemu-img` resize the disk to its
//!   present size, which ends with fdatasync(2) (*seen* by strace, QEMU 7.2). Other volumes can be made again.
//!
//! When a guest flushes its disk, QEMU flushes the whole file. So if the first 4 KiB were lost, no guest was ever told that
//! its writes to that volume were safe.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use virt::error::{Error, ErrorNumber};
use virt::storage_vol::StorageVol;
use virt::sys;

use super::Pool;
use super::sparse::{beginning, overwrite, upload};
use super::xml::{volume_xml, written};
use crate::error::{Explain, Failure, Result};
use crate::interrupt;
use crate::libvirt::{Answer, Say, code};
use crate::model::volume::{self, Role};
use crate::model::{Progress, Size, qcow2};

/// The bytes written last.
pub(super) const HEAD: u64 = 4096;

/// How long to wait for a volume that another process is making, and how often to look at it.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(500);

/// A volume counts as left behind if more looks in a row than this find it without its header.
const GRACE: u32 = 3;

/// A part that was not written for this long has no writer: a living one writes all the time.
const STALE: Duration = Duration::from_secs(10 * 60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// A whole volume was there already.
    Present,
    Uploaded,
}

impl Pool {
    /// Stores `source` byte for byte as the volume `name`, unless a whole volume of that name exists.
    ///
    /// A whole volume is never changed: delete it first to replace it. After an error, one of `progress` among them, nothing
    /// is left of the upload.
    pub fn put(
        &self,
        name: &str,
        source: &File,
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Stored> {
        let say = || self.cannot("store", name);
        let metadata = source.metadata().explain(say)?;
        let total = metadata.len();
        if self.settle(name)? {
            return Ok(Stored::Present);
        }
        // The part and its copy; `blocks` are of 512 bytes (stat(2)).
        self.require_space(metadata.blocks() * 512 * 2, name)?;

        let (_part, volume) = PartVolume::make(self, name, total, say)?;
        self.sweep(&volume).say(say)?;
        let mut step = |done| progress(Progress { done, total });
        upload(&self.connection, &volume, source, (HEAD, total), &mut step).explain(say)?;
        let mut head = vec![0; usize::try_from(HEAD.min(total)).unwrap_or_default()];
        source.read_exact_at(&mut head, 0).explain(say)?;
        self.complete(&volume, name, total, &head)
    }

    /// Makes the volume `name` from a part of that length which lacks only its header: steps 2 and 3.
    pub(super) fn complete(&self, part: &StorageVol, name: &str, length: u64, head: &[u8]) -> Result<Stored> {
        let say = || self.cannot("store", name);
        match self.copy(part, volume_xml(name, length)?)? {
            Ok(copy) => {
                if let Err(error) = overwrite(&self.connection, &copy, head) {
                    let _ = self.delete_raw(name);
                    return Err(error).explain(say);
                }
                if matches!(volume::parse(name), Some((_, Role::Data(_)))) {
                    self.sync(name, head);
                }
                Ok(Stored::Uploaded)
            }
            // Another process may have made it first; libvirt has no error code of its own for that here.
            Err(_) if self.settle(name)? => Ok(Stored::Present),
            Err(error) => Err(error).say(say),
        }
    }

    /// Has libvirt sync a qcow2 volume, and returns whether it did: not while it copies another volume of the pool, nor if the
    /// volume occupies more than the size of its disk.
    pub(super) fn sync(&self, name: &str, head: &[u8]) -> bool {
        let synced = || -> Result<bool> {
            match qcow2::virtual_size(head) {
                Some(capacity) => self.grow_now(name, Size::from_bytes(capacity)),
                None => Ok(false),
            }
        };
        // The volume is whole anyway, and the kernel writes it soon.
        synced().unwrap_or(false)
    }

    /// Stores `bytes` as [`Pool::put`] does a file. They are not written to a disk of this host on the way.
    pub fn put_bytes(&self, name: &str, bytes: &[u8]) -> Result<Stored> {
        let mut file = file_in_memory()?;
        file.write_all(bytes).explain(no_memory)?;
        self.put(name, &file, &mut |_| Ok(()))
    }

    pub fn is_whole(&self, name: &str) -> Result<bool> {
        self.look(name).say(|| self.cannot("look at", name)).map(|seen| seen == Seen::Whole)
    }

    /// Returns whether the volume exists without its first bytes: the upload was interrupted, or a power cut lost them.
    pub fn is_headless(&self, name: &str) -> Result<bool> {
        self.look(name).say(|| self.cannot("look at", name)).map(|seen| seen == Seen::Partial)
    }

    /// Returns whether the volume is whole; deletes one that is not, and waits for one that is being made.
    pub(super) fn settle(&self, name: &str) -> Result<bool> {
        let say = || self.cannot("store", name);
        let mut partial = 0;
        let settled = interrupt::poll(PATIENCE, POLL, || {
            match self.look(name).say(say)? {
                Seen::Whole => return Ok(Some(true)),
                Seen::Missing => return Ok(Some(false)),
                Seen::Busy => partial = 0,
                Seen::Partial => partial += 1,
            }
            // A living writer writes the header right after the copy.
            if partial > GRACE {
                match self.delete_raw(name) {
                    Ok(_) => return Ok(Some(false)),
                    Err(error) if busy(&error) => partial = 0,
                    Err(error) => return Err(error).say(say),
                }
            }
            Ok(None)
        })?;
        settled.ok_or_else(|| {
            say().because(Failure::user("another process has been making it for two minutes")).into()
        })
    }

    /// Deletes a volume that no process makes any more, if it exists, and the parts of its interrupted uploads. Waits while
    /// libvirt still copies it for a nixvm that was interrupted.
    pub fn clear(&self, name: &str) -> Result<()> {
        let prefix = format!("{name}.");
        let of_it = |other: &String| other == name || other.starts_with(&prefix) && other.ends_with(PART);
        self.volumes()?
            .iter()
            .filter(|other| of_it(other))
            .try_for_each(|volume| self.delete_when_made(volume))
    }

    fn delete_when_made(&self, volume: &str) -> Result<()> {
        let say = || self.cannot("delete", volume);
        self.require_unused(volume)?;
        let deleted = interrupt::poll(PATIENCE, POLL, || match self.delete_raw(volume) {
            Err(error) if busy(&error) => Ok(None),
            done => done.say(say).map(Some),
        })?;
        deleted.map(drop).ok_or_else(|| {
            let busy = Failure::user("libvirt has been copying it for two minutes");
            say().hint("run the command again when that is done").because(busy).into()
        })
    }

    fn look(&self, name: &str) -> Answer<Seen> {
        let Some(volume) = self.volume(name)? else { return Ok(Seen::Missing) };
        match beginning(&self.connection, &volume, HEAD as usize) {
            Ok(bytes) if bytes.iter().any(|&byte| byte != 0) => Ok(Seen::Whole),
            Ok(_) => Ok(Seen::Partial),
            Err(error) if busy(&error) => Ok(Seen::Busy),
            Err(error) if code(&error) == Some(ErrorNumber::NoStorageVolume) => Ok(Seen::Missing),
            Err(_) if volume.info().unless(ErrorNumber::NoStorageVolume)?.is_none() => {
                // The file was removed by hand. Until libvirt notices, it refuses to make a volume of that name.
                let _ = self.pool.refresh(0);
                Ok(Seen::Missing)
            }
            Err(error) => Err(error),
        }
    }

    /// Has libvirt copy the part. That takes as long as the part is large; an interruption does not wait for it.
    fn copy(&self, part: &StorageVol, xml: String) -> Result<Answer<StorageVol>> {
        let (pool, part) = (self.pool.clone(), part.clone());
        let copied = interrupt::attended(Duration::MAX, move || {
            match StorageVol::create_xml_from(&pool, &xml, &part, sys::VIR_STORAGE_VOL_CREATE_REFLINK) {
                Err(error) if code(&error) == Some(ErrorNumber::SystemError) => {
                    StorageVol::create_xml_from(&pool, &xml, &part, 0)
                }
                made => made,
            }
        })?;
        copied.ok_or_else(|| Failure::bug("a copy has no limit").into())
    }

    /// Deletes the parts of uploads that were killed, given a part that was just made: its time is that of the pool's clock,
    /// which need not be this host's.
    pub(super) fn sweep(&self, newest: &StorageVol) -> Answer<()> {
        let Some(now) = written(&newest.xml_desc(0)?) else { return Ok(()) };
        for volume in self.pool.list_all_volumes(0)? {
            if !volume.name()?.ends_with(PART) {
                continue;
            }
            let then = volume.xml_desc(0).unless(ErrorNumber::NoStorageVolume)?.and_then(|xml| written(&xml));
            if then.is_some_and(|then| now.saturating_sub(then) > STALE.as_secs()) {
                match volume.delete(0).unless(ErrorNumber::NoStorageVolume) {
                    // libvirt is copying it, which only reads it.
                    Err(error) if busy(&error) => {}
                    done => drop(done?),
                }
            }
        }
        Ok(())
    }
}

#[derive(PartialEq, Eq)]
enum Seen {
    Missing,
    Busy,
    Partial,
    Whole,
}

/// Returns an empty file in memory, for images that must not touch this host's disks.
pub(super) fn file_in_memory() -> Result<File> {
    Ok(File::from(rustix::fs::memfd_create("nixvm", rustix::fs::MemfdFlags::CLOEXEC).explain(no_memory)?))
}

fn no_memory() -> Failure {
    Failure::user("cannot hold an image in memory")
}

/// Returns whether libvirt refuses because it is making or copying the volume.
fn busy(error: &Error) -> bool {
    code(error) == Some(ErrorNumber::OperationInvalid)
}

/// A volume that is deleted when this is dropped.
pub(super) struct PartVolume<'a> {
    pool: &'a Pool,
    pub(super) name: String,
}

impl<'a> PartVolume<'a> {
    /// Returns the name for a part of the volume `name`; the caller makes it.
    pub(super) fn of(pool: &'a Pool, name: &str) -> Self {
        PartVolume { pool, name: format!("{name}.{}{PART}", uuid::Uuid::new_v4().simple()) }
    }

    /// Makes an empty part of that length for the volume `name`.
    pub(super) fn make(
        pool: &'a Pool,
        name: &str,
        length: u64,
        say: impl FnOnce() -> Failure,
    ) -> Result<(Self, StorageVol)> {
        let part = PartVolume::of(pool, name);
        let volume = StorageVol::create_xml(&pool.pool, &volume_xml(&part.name, length)?, 0).say(say)?;
        Ok((part, volume))
    }
}

impl Drop for PartVolume<'_> {
    fn drop(&mut self) {
        // If this fails, a later upload sweeps it.
        let _ = self.pool.delete_raw(&self.name);
    }
}

const PART: &str = ".part";
