//! What libvirt knows of a pool's files, and what it has to look for.
//!
//! libvirt knows the volumes that it made itself. It tells their lengths, times and what they take as they are now
//! (`virStorageVolGetInfo` and `virStorageVolGetXMLDesc` call the backend's `refreshVol`), and their formats, and
//! what they lie on, as it saw them when it last went through the pool. Files that QEMU or a person made it finds
//! only then. It refuses to go through the pool as long as it makes or copies a volume there
//! (`storagePoolRefresh` in libvirt's src/storage/storage_driver.c, "asynchronous jobs"), which may take as long as the
//! volume is large. So nothing here has it do so where a volume's own first bytes tell as much.

use std::time::Duration;

use virt::error::ErrorNumber;
use virt::storage_vol::StorageVol;

use super::Pool;
use super::put::HEAD;
use super::sparse::beginning;
use super::xml::backing;
use crate::error::{Failure, Result};
use crate::interrupt;
use crate::libvirt::{Say, code};
use crate::model::qcow2;
use crate::model::volume::may_be_qcow2;

/// How long a pool in which a volume is being made is waited for, and how often it is tried.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(500);

/// How long libvirt is given where nobody is to wait: it also refuses for the moment in which it opens a volume.
const MOMENT: Duration = Duration::from_secs(1);

/// What a volume's file says of itself.
pub(super) struct Described {
    /// Bytes that a guest would see of it.
    pub(super) capacity: u64,
    /// Bytes that it occupies in the pool.
    pub(super) allocation: u64,
    /// What it lies on, as it stands there; `None` where it stands alone.
    pub(super) below: Option<String>,
}

impl Pool {
    /// Has libvirt go through the pool's files anew, and waits as long as it makes a volume there.
    ///
    /// # Errors
    /// libvirt does not answer, or is making a volume for two minutes; an interruption.
    pub fn refresh(&self) -> Result<()> {
        self.refresh_within(PATIENCE)
    }

    /// Does the same with another limit.
    pub(super) fn refresh_within(&self, limit: Duration) -> Result<()> {
        // What libvirt knew before is no answer: by that volumes are deleted.
        self.refreshed(limit, POLL)?.ok_or_else(|| {
            let busy = Failure::user("libvirt is making a volume in it");
            self.cannot("look at", "the volumes")
                .hint("wait until that is done, and run the command again")
                .because(busy)
                .into()
        })
    }

    /// Has libvirt go through the pool's files anew, and returns whether it did: not while it makes a volume there.
    ///
    /// # Errors
    /// libvirt does not answer; an interruption.
    pub fn refresh_now(&self) -> Result<bool> {
        Ok(self.refreshed(MOMENT, MOMENT / 10)?.is_some())
    }

    fn refreshed(&self, limit: Duration, every: Duration) -> Result<Option<()>> {
        let say = || self.cannot("look at", "the volumes");
        interrupt::poll(limit, every, || self.pool.refresh(0).unless(ErrorNumber::InternalError).say(say))
    }

    /// Returns the volume; one that libvirt does not know is looked for.
    pub(super) fn look_for(&self, volume: &str) -> Result<Option<StorageVol>> {
        let say = || self.cannot("look for", volume);
        match self.known(volume)? {
            None => {
                // QEMU made the file, or somebody put it there by hand.
                self.refresh()?;
                self.volume(volume).say(say)
            }
            known => Ok(known),
        }
    }

    /// Returns whether there is a volume of that name; one that libvirt does not know is looked for.
    pub fn has(&self, volume: &str) -> Result<bool> {
        self.look_for(volume).map(|found| found.is_some())
    }

    /// Returns the length of the volume's file in bytes, as far as libvirt can tell at once; `None` where it knows none.
    ///
    /// For what only explains something, such as a log.
    pub fn length_now(&self, volume: &str) -> Option<u64> {
        if self.known(volume).ok()?.is_none() {
            self.refresh_now().ok()?;
        }
        let xml = self.volume(volume).ok()??.xml_desc(0).ok()?;
        super::xml::length(&xml)
    }

    /// Returns the volume if libvirt knows it and its file is still there.
    fn known(&self, volume: &str) -> Result<Option<StorageVol>> {
        let say = || self.cannot("look for", volume);
        let Some(found) = self.volume(volume).say(say)? else { return Ok(None) };
        match found.info() {
            Err(error) if is_missing(&error) => Ok(None),
            // One that is being made is there.
            _ => Ok(Some(found)),
        }
    }

    /// Returns what the volume's file says of itself now; `None` where the file is gone. Of one that is raw by its name the
    /// first bytes say nothing, for a guest may have written them.
    pub(super) fn describe(
        &self,
        found: &StorageVol,
        name: &str,
    ) -> std::result::Result<Option<Described>, virt::error::Error> {
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
            // It is being made, and nobody can read it: what whoever makes it said that it will lie on.
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
