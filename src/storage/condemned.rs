//! How a base image is deleted while another nixvm may be about to use it.
//!
//! A base image belongs to no machine: the nixvm of any workspace finds it in the pool and makes a machine on it. libvirt can
//! neither check and delete in one step nor lock a volume, so the process that deletes (the deleter) and the one that uses
//! the image (the user) each leave a sign for the other:
//!
//! | Deleter | User |
//! | --- | --- |
//! | 1. puts a mark beside the base ([`Pool::condemn`]) | 1. puts a whole volume that lies on the base into the pool |
//! | 2. looks for volumes that lie on the base | 2. waits until there is no mark ([`Pool::wait_while_condemned`]) |
//! | 3. deletes the base, or keeps it | 3. looks for the base, and uploads it again if it is missing |
//! | 4. removes the mark | |
//!
//! If the deleter's step 2 did not see the user's volume, the mark was there before the user's step 2. So the user waits until
//! after the deleter's step 4, and its step 3 sees whether the base still exists. No clock is needed, except the pool's own
//! to recognise marks of a nixvm that was killed.

use std::time::Duration;

use super::Pool;
use super::put::PartVolume;
use super::xml::written;
use crate::error::{Failure, Result};
use crate::interrupt;
use crate::libvirt::Say;

/// Seconds by the pool's clock after which a mark counts as left behind. A living deleter looks at the pool once and deletes.
const ABANDONED: u64 = 60;

/// How long to wait for marks to go, and how often to look.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(500);

/// Follows the name of the volume in the name of its mark.
const MARK: &str = "condemned";

/// A volume with a mark, which is about to be deleted; dropping this removes the mark.
pub struct Condemned<'a> {
    pool: &'a Pool,
    volume: String,
    mark: PartVolume<'a>,
}

impl Pool {
    /// Puts a mark beside a volume. From now on its users wait until the returned value is dropped.
    pub fn condemn(&self, volume: &str) -> Result<Condemned<'_>> {
        let say = || self.cannot("delete", volume);
        let (mark, _) = PartVolume::make(self, &format!("{volume}.{MARK}"), 1, say)?;
        Ok(Condemned { pool: self, volume: volume.to_owned(), mark })
    }

    /// Waits until no process is about to delete the volume. It may have been deleted then.
    ///
    /// The caller must have put a volume that lies on this one into the pool before, so that a later deleter sees it.
    ///
    /// # Errors
    /// The volume has a mark for two minutes; libvirt does not answer; an interruption.
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

    /// Returns the time of the clock that stamps the pool's volumes, in seconds since 1970; `None` if libvirt does not say.
    /// This makes a volume of one byte and deletes it.
    pub fn now(&self) -> Result<Option<u64>> {
        let say = || self.cannot("look at", "the clock");
        // No machine's volumes have names that begin like this.
        let (_part, volume) = PartVolume::make(self, "_clock", 1, say)?;
        Ok(written(&volume.xml_desc(0).say(say)?))
    }

    fn marks(&self, volume: &str) -> Result<Vec<String>> {
        let prefix = format!("{volume}.{MARK}.");
        Ok(self.volumes()?.into_iter().filter(|name| name.starts_with(&prefix)).collect())
    }
}

impl Condemned<'_> {
    /// Deletes the volume, and returns whether it was there and the mark still was.
    ///
    /// After condemning it the caller must have checked that no volume lies on it.
    ///
    /// # Errors
    /// A domain needs the volume, or it cannot be deleted.
    pub fn delete(self) -> Result<bool> {
        let say = || self.pool.cannot("delete", &self.volume);
        self.pool.require_unused(&self.volume)?;
        // Another process may have taken this one for dead and removed the mark.
        if self.pool.volume(&self.mark.name).say(say)?.is_none() {
            return Ok(false);
        }
        self.pool.delete_raw(&self.volume).say(say)
    }
}
