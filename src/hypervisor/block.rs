//! Work on the images of a machine's data disk while QEMU has them open.
//!
//! A merge changes the lower image at once and the chain at its end. Until then
//! the chain shows the same disk as before, also after an abort or a crash; the
//! lower image alone no longer holds a usable disk.

use std::time::Duration;

use virt::error::ErrorNumber;
use virt::sys;

use super::definition::DATA;
use super::domain::whole_definition;
use super::{Confinement, Owned};
use crate::error::{Explain, Failure, Result};
use crate::interrupt;
use crate::libvirt::{self, Say, code, said};
use crate::model::{Progress, Size};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merged {
    Yes,
    /// It could not begin because of AppArmor: the chain is as it was.
    ///
    /// libvirt's profile denies writing to the backing files of a disk (`virt-aa-helper`, until libvirt 12.1:
    /// <https://gitlab.com/libvirt/libvirt/-/work_items/806>), and no later rule can allow what one denies, so QEMU cannot
    /// write to the lower image of a merge. Only layers that snapshots made since the machine was started can be merged,
    /// and these only until libvirt writes the profile again.
    Denied,
}

const POLL: Duration = Duration::from_millis(100);

impl Owned {
    /// Merges the image at the path `top` of the running data disk's chain, and those between, into the one at `base`.
    ///
    /// If the machine writes to `top`, it writes to `base` afterwards. The definition follows. `base` is no longer a usable
    /// snapshot once this begins; the file `top` stays, and is unused afterwards. The merge of a nixvm that was killed is
    /// cancelled first. An error of `progress` or an interruption cancels the merge, and the chain is as it was.
    ///
    /// # Errors
    /// The machine is off, a path is not in its chain, the pool has no space, or `progress` returns one. [`Merged::Denied`]
    /// is no error: with QEMU [paused](Owned::paused) the same merge can be made.
    pub fn commit_data(
        &self,
        base: &str,
        top: &str,
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Merged> {
        let say = || self.cannot("merge images of the data disk of");
        let disk = self.data_target()?;
        self.end_merge()?;
        let active = self.live_disks()?.volume(DATA) == Some(file_name(top));
        // Relative names stay relative, so that a pool can be moved; the written image is named by nothing.
        let flags =
            if active { sys::VIR_DOMAIN_BLOCK_COMMIT_ACTIVE } else { sys::VIR_DOMAIN_BLOCK_COMMIT_RELATIVE };
        match libvirt::block_commit(&self.domain, &disk, base, top, flags) {
            Ok(()) => {}
            Err(error)
                if code(&error) == Some(ErrorNumber::InternalError)
                    && self.confinement() == Confinement::AppArmor =>
            {
                return Ok(Merged::Denied);
            }
            Err(error) => return Err(error).say(say),
        }
        if let Err(error) = self.follow(&disk, progress) {
            // At worst it continues, and the next merge cancels it.
            let _ = libvirt::block_job_abort(&self.domain, &disk, 0);
            return Err(error).explain(say);
        }
        // A job that failed disappears like one that is done.
        match self.live_disks()?.disk(DATA) {
            Some(disk) if !disk.chain.iter().any(|image| image == file_name(top)) => Ok(Merged::Yes),
            _ => Err(say()
                .hint("see that the pool has space, and what QEMU says in /var/log/libvirt/qemu")
                .because(Failure::user("QEMU ended the merge before its end"))
                .into()),
        }
    }

    /// Cancels the merge of a nixvm that was killed, and returns whether there was one; the chain is as it was. The machine
    /// must be up.
    ///
    /// During a merge the data disk cannot be switched, and a guest's writes go to both images.
    pub fn end_merge(&self) -> Result<bool> {
        let say = || self.cannot("end a merge of the data disk of");
        let disk = self.data_target()?;
        let found = libvirt::block_job(&self.domain, &disk).say(say)?.is_some();
        if found {
            libvirt::block_job_abort(&self.domain, &disk, 0).say(say)?;
        }
        Ok(found)
    }

    /// Makes the running machine's data disk larger; the guest sees that at once.
    ///
    /// # Errors
    /// The machine is off, the disk is larger already, or the pool has no space.
    pub fn grow_data(&self, capacity: Size) -> Result<()> {
        let say = || self.cannot("grow the data disk of");
        let disk = self.data_target()?;
        let has = libvirt::block_capacity(&self.domain, &disk).say(say)?;
        // libvirt would cut off everything behind the new end, and only versions after 10 can be told not to.
        if capacity.bytes() < has {
            return Err(say().because(Failure::user(format!("it has {has} bytes already"))).into());
        }
        self.domain.block_resize(&disk, capacity.bytes(), sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES).say(say)
    }

    /// Starts QEMU for a machine that is off, with its guest paused before the first instruction.
    ///
    /// Merges need QEMU and no guest. The machine is off again when the guard is dropped, and also when nixvm is killed,
    /// for libvirt ends it with the connection. AppArmor does not confine this QEMU, so that it may write to backing files
    /// (see [`Merged::Denied`]); no guest runs that could misuse this.
    pub fn paused(&self) -> Result<Paused<'_>> {
        const VERB: &str = "open the disks of";
        let say = || self.cannot(VERB);
        let mut xml = whole_definition(&self.domain).say(say)?;
        if self.confinement() == Confinement::AppArmor {
            xml = unconfined(&xml);
        }
        // libvirt uses this instead of the definition until the domain is off.
        let flags = sys::VIR_DOMAIN_START_PAUSED | sys::VIR_DOMAIN_START_AUTODESTROY;
        let connection = self.domain.connect().say(say)?;
        let started = connection.create_domain_xml(&xml, flags);
        started.map_err(|error| self.cannot_start(VERB, &error).because(said(&error)))?;
        Ok(Paused(self))
    }

    /// Waits for the job on the disk, and has QEMU switch to the lower image where the job ends like this.
    fn follow(&self, disk: &str, progress: &mut dyn FnMut(Progress) -> Result<()>) -> Result<()> {
        loop {
            interrupt::check()?;
            let Some(job) = libvirt::block_job(&self.domain, disk).said()? else { return Ok(()) };
            progress(Progress { done: job.done, total: job.total })?;
            // libvirt refuses to switch until the images are equal.
            if job.kind == sys::VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT && job.done == job.total {
                let pivot = sys::VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT;
                match libvirt::block_job_abort(&self.domain, disk, pivot) {
                    Ok(()) => return Ok(()),
                    Err(error) if code(&error) == Some(ErrorNumber::BlockCopyActive) => {}
                    Err(error) => return Err(said(&error)),
                }
            }
            std::thread::sleep(POLL);
        }
    }

    /// Returns libvirt's name of the running machine's data disk.
    fn data_target(&self) -> Result<String> {
        let disks = self.live_disks()?;
        disks.data().map(|disk| disk.target.clone()).explain(|| self.cannot("find the data disk of"))
    }
}

/// A machine whose disks QEMU has open while its guest is paused; off when dropped.
#[must_use = "the machine is off again when this is dropped"]
pub struct Paused<'a>(&'a Owned);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        // If this fails, libvirt does it when the connection closes.
        let _ = self.0.force_off();
    }
}

/// Returns a domain's XML with AppArmor switched off, unless the XML itself says how the domain is confined.
fn unconfined(xml: &str) -> String {
    match xml.rsplit_once("</domain>") {
        Some((domain, rest)) if !xml.contains("<seclabel ") => {
            format!("{domain}  <seclabel type='none' model='apparmor'/>\n</domain>{rest}")
        }
        _ => xml.to_owned(),
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apparmor_is_switched_off_where_nobody_said_how_it_is_to_be() {
        let with = unconfined("<domain><name>a</name>\n</domain>\n");
        assert_eq!(with, "<domain><name>a</name>\n  <seclabel type='none' model='apparmor'/>\n</domain>\n");
        assert_eq!(unconfined(&with), with);
    }
}
