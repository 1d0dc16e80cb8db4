//! How a volume that everybody may take is deleted.
//!
//! A base image is nobody's: any workspace's nixvm finds it in the pool and makes a machine on it. libvirt can neither look
//! and delete in one step nor lock a volume, so the one who deletes and the one who finds each leave a sign for the other:
//!
//! | Who deletes | Who finds |
//! | --- | --- |
//! | 1. puts a mark beside the volume ([`Pool::condemn`]) | 1. puts a volume that lies on it into the pool, whole |
//! | 2. looks whether anything lies on the volume | 2. waits until there is no mark ([`Pool::wait_while_condemned`]) |
//! | 3. deletes the volume, or does not | 3. looks for the volume, and puts it there where it is missing |
//! | 4. takes the mark away | |
//!
//! If the deleter, in its step 2, did not see what lies on the volume, the mark was there before the finder's step 2, which
//! then ends behind the deleter's step 4; so step 3 of the finder sees what became of the volume. No clock is in it but for
//! marks of a nixvm that was killed: the pool's own.

use std::time::Duration;

use virt::storage_vol::StorageVol;

use super::Pool;
use super::put::Part;
use super::xml::{volume_xml, written};
use crate::error::{Failure, Result};
use crate::interrupt;
use crate::libvirt::Say;

/// How long, by the pool's clock, a mark may be there. Its owner looks at the pool once and deletes, or is dead.
const ABANDONED: u64 = 60;

/// How long marks are waited for, and how often they are looked for.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(500);

/// How the name of a mark begins behind that of its volume.
const MARK: &str = "condemned";

/// A volume that is deleted next, unless something needs it.
pub struct Condemned<'a> {
    pool: &'a Pool,
    volume: String,
    mark: Part<'a>,
}

impl Pool {
    /// Puts a mark beside a volume: who finds the volume from now on waits until the returned value is dropped.
    pub fn condemn(&self, volume: &str) -> Result<Condemned<'_>> {
        let say = || self.cannot("delete", volume);
        let mark = Part::of(self, &format!("{volume}.{MARK}"));
        StorageVol::create_xml(&self.pool, &volume_xml(&mark.name, 1)?, 0).say(say)?;
        Ok(Condemned { pool: self, volume: volume.to_owned(), mark })
    }

    /// Waits until nobody is about to delete the volume. It may be gone then.
    ///
    /// Whoever calls this has put a volume into the pool that lies on this one, so that whoever looks later keeps it.
    ///
    /// # Errors
    /// Another process is about to delete it for two minutes; libvirt does not answer; an interruption.
    pub fn wait_while_condemned(&self, volume: &str) -> Result<()> {
        let spared = interrupt::poll(PATIENCE, POLL, || {
            let marks = self.marks(volume)?;
            if marks.is_empty() {
                return Ok(Some(()));
            }
            let now = self.now()?;
            for mark in marks {
                let age = now.zip(self.written(&mark)?).map(|(now, then)| now.abs_diff(then));
                if age.is_some_and(|age| age > ABANDONED) {
                    self.delete_raw(&mark).say(|| self.cannot("delete", &mark))?;
                }
            }
            Ok(None)
        })?;
        spared.ok_or_else(|| {
            let why =
                Failure::user(format!("`nixvm clean` has been about to delete `{volume}` for two minutes"));
            self.cannot("use", volume)
                .because(why)
                .hint("wait until that has ended, and run the command again")
                .into()
        })
    }

    /// Returns the time by the clock that the pool's volumes have their times from, in seconds since 1970; `None` where
    /// libvirt does not say. A volume of one byte is made for it, and deleted.
    pub fn now(&self) -> Result<Option<u64>> {
        let say = || self.cannot("look at", "the clock");
        // No machine's volume begins like this.
        let part = Part::of(self, "_clock");
        let volume = StorageVol::create_xml(&self.pool, &volume_xml(&part.name, 1)?, 0).say(say)?;
        Ok(written(&volume.xml_desc(0).say(say)?))
    }

    fn marks(&self, volume: &str) -> Result<Vec<String>> {
        let prefix = format!("{volume}.{MARK}.");
        Ok(self.volumes()?.into_iter().filter(|name| name.starts_with(&prefix)).collect())
    }
}

impl Condemned<'_> {
    /// Deletes the volume, and returns whether there was one and the mark still stood.
    ///
    /// The caller has seen since it was condemned that no volume lies on it.
    ///
    /// # Errors
    /// A domain needs it, or it cannot be deleted.
    pub fn delete(self) -> Result<bool> {
        let say = || self.pool.cannot("delete", &self.volume);
        self.pool.require_unused(&self.volume)?;
        // Somebody may have taken this process for dead.
        if self.pool.volume(&self.mark.name).say(say)?.is_none() {
            return Ok(false);
        }
        self.pool.delete_raw(&self.volume).say(say)
    }
}
