//! When libvirt's knowledge of a pool is enough, and when the pool must be refreshed.
//!
//! libvirt knows the volumes that it made. It tells their current lengths, times and allocations (`virStorageVolGetInfo` and
//! `virStorageVolGetXMLDesc` call the backend's `refreshVol`), but their formats and backing files as of the pool's last
//! refresh. It finds files that QEMU or a person made only at a refresh. And it refuses to refresh while it makes or copies a
//! volume in the pool (`storagePoolRefresh` in libvirt's src/storage/storage_driver.c, "asynchronous jobs"), which takes as
//! long as the volume is large. So this refreshes only if a volume's own first bytes do not tell enough.

use std::time::Duration;

use virt::error::ErrorNumber;
use virt::storage_vol::StorageVol;

use super::Pool;
use super::put::HEAD;
use super::sparse::beginning;
use super::xml::backing;
use crate::error::{Failure, Result};
use crate::interrupt;
use crate::libvirt::{Answer, Say, code};
use crate::model::qcow2;
use crate::model::volume::may_be_qcow2;

/// How long to wait for a pool in which a volume is being made, and how often to try.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(500);

/// How long to try where nothing may wait: libvirt also refuses for a moment whenever it opens a volume.
const MOMENT: Duration = Duration::from_secs(1);

/// A volume according to its own file.
pub(super) struct Described {
    /// Bytes of the disk that a guest sees.
    pub(super) capacity: u64,
    /// Bytes that the volume occupies in the pool.
    pub(super) allocation: u64,
    /// The backing file as the header names it.
    pub(super) below: Option<String>,
}

impl Pool {
    /// Refreshes the pool, and waits while libvirt makes a volume there.
    ///
    /// # Errors
    /// libvirt does not answer, or makes a volume for two minutes; an interruption.
    pub fn refresh(&self) -> Result<()> {
        self.refresh_within(PATIENCE)
    }

    /// Refreshes the pool, and waits for `limit` while libvirt makes a volume there.
    pub(super) fn refresh_within(&self, limit: Duration) -> Result<()> {
        // libvirt's older knowledge must not be used instead: callers delete volumes by it.
        self.refreshed(limit, POLL)?.ok_or_else(|| {
            let busy = Failure::user("libvirt is making a volume in it");
            self.cannot("look at", "the volumes")
                .hint("wait until that is done, and run the command again")
                .because(busy)
                .into()
        })
    }

    /// Refreshes the pool unless libvirt is making a volume there, and returns whether it did.
    pub fn refresh_now(&self) -> Result<bool> {
        Ok(self.refreshed(MOMENT, MOMENT / 10)?.is_some())
    }

    fn refreshed(&self, limit: Duration, every: Duration) -> Result<Option<()>> {
        let say = || self.cannot("look at", "the volumes");
        interrupt::poll(limit, every, || self.pool.refresh(0).unless(ErrorNumber::InternalError).say(say))
    }

    /// Returns the volume; refreshes the pool if libvirt does not know it.
    pub(super) fn look_for(&self, volume: &str) -> Result<Option<StorageVol>> {
        let say = || self.cannot("look for", volume);
        match self.known(volume)? {
            None => {
                // QEMU may have made the file, or a person.
                self.refresh()?;
                self.volume(volume).say(say)
            }
            known => Ok(known),
        }
    }

    /// Returns whether there is such a volume; refreshes the pool if libvirt does not know it.
    pub fn has(&self, volume: &str) -> Result<bool> {
        self.look_for(volume).map(|found| found.is_some())
    }

    /// Returns the length of the volume's file in bytes if libvirt can tell it without waiting.
    pub fn length_now(&self, volume: &str) -> Option<u64> {
        if self.known(volume).ok()?.is_none() {
            self.refresh_now().ok()?;
        }
        super::xml::length(&self.xml_of(volume).ok()??)
    }

    /// Returns the volume if libvirt knows it and its file is still there.
    fn known(&self, volume: &str) -> Result<Option<StorageVol>> {
        let say = || self.cannot("look for", volume);
        let Some(found) = self.volume(volume).say(say)? else { return Ok(None) };
        match found.info() {
            Err(error) if is_missing(&error) => Ok(None),
            // A volume that is being made counts as there.
            _ => Ok(Some(found)),
        }
    }

    /// Returns the volume according to its own file; `None` if the file no longer exists. If it is raw by its name, its first
    /// bytes are not looked at, for a guest may have written them.
    pub(super) fn describe(&self, found: &StorageVol, name: &str) -> Answer<Option<Described>> {
        let told = || {
            let info = found.info()?;
            if !may_be_qcow2(name) {
                return Ok(Described { capacity: info.capacity, allocation: info.allocation, below: None });
            }
            let mut head = beginning(&self.connection, found, HEAD as usize)?;
            let wanted = qcow2::backing_end(&head).filter(|&end| end > head.len());
            if let Some(end) = wanted {
                head = beginning(&self.connection, found, end)?;
            }
            let below = qcow2::backing(&head);
            let capacity = qcow2::virtual_size(&head).unwrap_or(info.capacity);
            Ok(Described { capacity, allocation: info.allocation, below })
        };
        match told() {
            Err(error) if is_missing(&error) => Ok(None),
            // It is being made and cannot be read; libvirt tells the backing file that its maker named.
            Err(error) if code(&error) == Some(ErrorNumber::OperationInvalid) => {
                let (info, xml) = (found.info()?, found.xml_desc(0)?);
                let (capacity, allocation) = (info.capacity, info.allocation);
                Ok(Some(Described { capacity, allocation, below: backing(&xml) }))
            }
            told => told.map(Some),
        }
    }
}

/// Returns whether libvirt says that the volume, or its file, is not there.
fn is_missing(error: &virt::error::Error) -> bool {
    code(error) == Some(ErrorNumber::NoStorageVolume)
}
