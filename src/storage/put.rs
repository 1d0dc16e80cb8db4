//! How a file becomes a volume that is whole or is not there.
//!
//! libvirt can neither rename a volume nor lock one, an upload can die at any
//! byte, and two nixvms can upload the same base at once. So a volume's first
//! bytes, its header, are the sign that it is whole, and are written last:
//!
//! 1. The file goes into a volume of its own name, `NAME.….part`, but for the first 4 KiB.
//! 2. libvirt copies that to NAME, by reflink where the file system can. libvirt lets only one
//!    process make NAME, lets nobody open it until the copy is done, and syncs a copy to the disk.
//! 3. The first 4 KiB are written to NAME.
//!
//! A volume that begins with zeros is therefore not whole, whatever died and
//! whenever; it is no qcow2 file either, so that no guest could start from it.
//! The next `put` of that name deletes it and begins anew. As step 3 can only
//! reach a copy that is complete, this holds for any number of writers.
//!
//! What is on the disk, and stays there when the power is cut:
//!
//! - after step 2 the name and all but the first 4 KiB (libvirt's `createRawFile` ends with fsync(2), after a reflink too);
//! - after step 3 nothing more, for libvirt does not sync what is uploaded (`virFDStreamThread`; *seen* with 9.0): Linux
//!   writes it within half a minute (`vm.dirty_expire_centisecs`);
//! - after a fourth step, for a machine's data alone, the first 4 KiB too: libvirt has `qemu-img` give the disk the size that
//!   it has, which ends with fdatasync(2) (*seen* by strace, QEMU 7.2). What can be made again needs no such step.
//!
//! A guest that has QEMU flush its disk flushes the whole file: where the first 4 KiB were lost, so was all that any guest
//! wrote to that volume, and no guest was told that it is kept.

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
use crate::libvirt::{Say, code};
use crate::model::volume::{self, Role};
use crate::model::{Progress, Size, qcow2};

/// The bytes written last.
pub(super) const HEAD: u64 = 4096;

/// How long a volume that another process is making is waited for, and how often it is looked at.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(500);

/// How many looks in a row must find a volume without its header before it counts as left behind.
const GRACE: u32 = 3;

/// How much longer ago than now a part was last written when its writer is dead: a living one writes all the time.
const STALE: Duration = Duration::from_secs(10 * 60);

/// What `put` had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Nothing: the volume was there, whole.
    Present,
    /// It was uploaded.
    Uploaded,
}

impl Pool {
    /// Stores `source` byte for byte as the volume `name`, unless a whole volume of that name is there.
    ///
    /// Never changes a whole volume: delete it first to replace it. An error that `progress` returns ends the upload,
    /// and nothing is left of it.
    ///
    /// # Errors
    /// The pool has no space, the file cannot be read, libvirt fails, or `progress` refuses to go on.
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

        let part = Part::of(self, name);
        let xml = volume_xml(&part.name, total)?;
        let volume = StorageVol::create_xml(&self.pool, &xml, 0).say(say)?;
        self.sweep(&volume).say(say)?;
        let mut step = |done| progress(Progress { done, total });
        upload(&self.connection, &volume, source, (HEAD, total), &mut step).explain(say)?;
        let mut head = vec![0; usize::try_from(HEAD.min(total)).unwrap_or_default()];
        source.read_exact_at(&mut head, 0).explain(say)?;
        self.complete(&volume, name, total, &head)
    }

    /// Makes the volume `name` of a part of that length which lacks but the header: steps 2 and 3.
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
            // Someone else was quicker; libvirt has no code of its own for that here.
            Err(_) if self.settle(name)? => Ok(Stored::Present),
            Err(error) => Err(error).say(say),
        }
    }

    /// Has libvirt see to it that a qcow2 volume's first bytes are on the disk, and returns whether it did: not while it copies
    /// another volume of the pool, nor where the volume takes more than its disk could hold.
    pub(super) fn sync(&self, name: &str, head: &[u8]) -> bool {
        let synced = || -> Result<bool> {
            match qcow2::virtual_size(head) {
                Some(capacity) => self.grow_now(name, Size::from_bytes(capacity)),
                None => Ok(false),
            }
        };
        // It is whole all the same, and the kernel writes it soon.
        synced().unwrap_or(false)
    }

    /// Stores `bytes` as [`Pool::put`] does a file. They touch no disk of this host on their way.
    pub fn put_bytes(&self, name: &str, bytes: &[u8]) -> Result<Stored> {
        let memory = || Failure::user("cannot hold an image in memory");
        let fd = rustix::fs::memfd_create("nixvm", rustix::fs::MemfdFlags::CLOEXEC).explain(memory)?;
        let mut file = File::from(fd);
        file.write_all(bytes).explain(memory)?;
        self.put(name, &file, &mut |_| Ok(()))
    }

    /// Returns whether the volume is there and whole.
    pub fn is_whole(&self, name: &str) -> Result<bool> {
        self.look(name).say(|| self.cannot("look at", name)).map(|seen| seen == Seen::Whole)
    }

    /// Returns whether the volume is there and lacks its first bytes: it was never finished, or they were lost in a power cut.
    pub fn is_headless(&self, name: &str) -> Result<bool> {
        self.look(name).say(|| self.cannot("look at", name)).map(|seen| seen == Seen::Partial)
    }

    /// Returns whether the volume is there and whole; deletes one that is not, and waits for one being made.
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
            // A living writer has the header in place a moment after the copy.
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

    /// Deletes a volume that nobody makes any more, and what uploads of it left that were killed; missing ones are deleted
    /// already. One that libvirt still copies, for a nixvm that was interrupted, is waited for.
    ///
    /// # Errors
    /// libvirt does not answer, or cannot delete one; an interruption.
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

    fn look(&self, name: &str) -> std::result::Result<Seen, Error> {
        let Some(volume) = self.volume(name)? else { return Ok(Seen::Missing) };
        match beginning(&self.connection, &volume, HEAD as usize) {
            Ok(bytes) if bytes.iter().any(|&byte| byte != 0) => Ok(Seen::Whole),
            Ok(_) => Ok(Seen::Partial),
            Err(error) if busy(&error) => Ok(Seen::Busy),
            Err(error) if code(&error) == Some(ErrorNumber::NoStorageVolume) => Ok(Seen::Missing),
            Err(_) if volume.info().unless(ErrorNumber::NoStorageVolume)?.is_none() => {
                // Somebody removed the file; libvirt makes none of that name before it has noticed.
                let _ = self.pool.refresh(0);
                Ok(Seen::Missing)
            }
            Err(error) => Err(error),
        }
    }

    /// Has libvirt copy the part, which it does for as long as the part is large; an interruption does not wait for that.
    fn copy(&self, part: &StorageVol, xml: String) -> Result<std::result::Result<StorageVol, Error>> {
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

    /// Deletes the parts that uploads left behind which were killed, given one that was just made.
    ///
    /// Their ages are told by the pool's own clock, which need not be this host's.
    pub(super) fn sweep(&self, newest: &StorageVol) -> std::result::Result<(), Error> {
        let Some(now) = written(&newest.xml_desc(0)?) else { return Ok(()) };
        for volume in self.pool.list_all_volumes(0)? {
            if !volume.name()?.ends_with(PART) {
                continue;
            }
            let then = volume.xml_desc(0).unless(ErrorNumber::NoStorageVolume)?.and_then(|xml| written(&xml));
            if then.is_some_and(|then| now.saturating_sub(then) > STALE.as_secs()) {
                match volume.delete(0).unless(ErrorNumber::NoStorageVolume) {
                    // Read, not written: libvirt is copying it.
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

/// Returns whether libvirt refuses because it is making the volume.
fn busy(error: &Error) -> bool {
    code(error) == Some(ErrorNumber::OperationInvalid)
}

/// A volume that is deleted when done with.
pub(super) struct Part<'a> {
    pool: &'a Pool,
    pub(super) name: String,
}

impl<'a> Part<'a> {
    /// Returns a part of the volume `name`, which the caller makes.
    pub(super) fn of(pool: &'a Pool, name: &str) -> Self {
        Part { pool, name: format!("{name}.{}{PART}", uuid::Uuid::new_v4().simple()) }
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        // Swept later if this fails.
        let _ = self.pool.delete_raw(&self.name);
    }
}

/// How the names of parts end.
const PART: &str = ".part";
