//! Copies of a running machine's data disk as it was at one instant.
//!
//! QEMU writes them: it copies old data before the guest overwrites it, so the
//! copy shows the disk as it was when it began. A checkpoint is the name of such
//! an instant; from then on QEMU notes in the disk what changes.

use std::time::{Duration, Instant};

use roxmltree::Node;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::sys;

use super::definition::{Definition, Disk};
use super::{Confinement, Frozen, Owned, Seen};
use crate::error::{Explain, Failure, Result};
use crate::interrupt;
use crate::libvirt::xml::{all, escape, read};
use crate::libvirt::{self, Answer, Say, code};
use crate::model::Progress;

/// The beginning of the names of nixvm's checkpoints; eight hexadecimal digits, `-` and more follow.
pub const CHECKPOINTS: &str = "nixvm-";

const POLL: Duration = Duration::from_millis(100);

/// How long QEMU may take to end a backup that is no longer wanted.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
pub struct BackupRequest<'a> {
    /// The absolute path, on the hypervisor, of the qcow2 file to write: empty, as large as the disk, without a backing file.
    ///
    /// libvirt could make the file too, but would make the image that the guest writes the backing file of an increment.
    pub path: &'a str,
    /// Only changes since this checkpoint are copied; `None` for everything.
    pub since: Option<&'a str>,
    /// The name of a checkpoint to make at the same instant.
    pub checkpoint: Option<&'a str>,
}

impl Seen {
    /// Returns the names of the machine's checkpoints, oldest first.
    pub fn checkpoints(&self) -> Result<Vec<String>> {
        libvirt::checkpoints(&self.domain).say(|| self.cannot("list the checkpoints of"))
    }
}

impl Owned {
    /// Copies the running machine's data disk, and returns for how long its guest was frozen.
    ///
    /// `None` where the guest's agent does not answer or cannot freeze it: the copy is then as after a power cut. An error of
    /// `progress` or an interruption ends the copy; the file is then not whole, and the checkpoint stays.
    ///
    /// # Errors
    /// The machine is off, has a job already, has no such checkpoint, there is no space, or `progress` returns one.
    pub fn backup_data(
        &self,
        request: BackupRequest<'_>,
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Option<Duration>> {
        let say = || self.cannot("back up the data disk of");
        let disks = self.live_disks()?;
        let data = &disks.data().explain(say)?.target;
        let backup = backup_xml(&disks, data, &request);
        let checkpoint = request.checkpoint.map(|name| checkpoint_xml(&disks, data, name));

        let frozen = if self.agent_answers() { self.freeze().ok() } else { None };
        let run = Run::begin(&self.domain, &backup, checkpoint.as_deref()).explain(say)?;
        let frozen_for = frozen.map(Frozen::thaw).transpose().explain(say)?.flatten();
        run.follow(progress).explain(say)?;
        Ok(frozen_for)
    }

    /// Ends the backup of a nixvm that was killed, and returns whether there was one.
    pub fn end_backup(&self) -> Result<bool> {
        end(&self.domain).explain(|| self.cannot("end the backup of"))
    }

    /// Returns how many bytes of the machine's data disk were written since that checkpoint, as QEMU counts them: in units
    /// of some KiB.
    ///
    /// # Errors
    /// The machine is off, has no such checkpoint, or QEMU has lost its notes, as after a crash.
    pub fn changed_since(&self, checkpoint: &str) -> Result<u64> {
        let say = || self.cannot(&format!("tell what changed since the checkpoint `{checkpoint}` of"));
        let flags = sys::VIR_DOMAIN_CHECKPOINT_XML_SIZE;
        let xml = libvirt::checkpoint_xml(&self.domain, checkpoint, flags).say(say)?;
        changed(&xml).explain(say)
    }

    /// Deletes the checkpoint of a running machine and returns whether it did; the checkpoint before it takes over its notes.
    ///
    /// A checkpoint that reaches down into a snapshot's layer stays where AppArmor keeps QEMU from writing there (see
    /// [`Merged::Denied`](super::Merged::Denied)). It costs a little at every write, and is deleted when the machine is off.
    pub fn delete_checkpoint(&self, name: &str) -> Result<bool> {
        let deleted = libvirt::checkpoint_delete(&self.domain, name, 0);
        if deleted.as_ref().is_err_and(|error| code(error) == Some(ErrorNumber::InternalError)) {
            if self.changed_since(name).is_err() {
                // The notes are gone from the disk, and only libvirt's record of the checkpoint is left.
                return self.forget_checkpoint(name);
            }
            if self.confinement() == Confinement::AppArmor {
                return Ok(false);
            }
        }
        let deleted = deleted.unless(ErrorNumber::NoDomainCheckpoint);
        Ok(deleted.say(|| self.cannot(&format!("delete the checkpoint `{name}` of")))?.is_some())
    }

    /// Deletes libvirt's record of a checkpoint whose notes are no longer in the disk.
    pub fn forget_checkpoint(&self, name: &str) -> Result<bool> {
        let flags = sys::VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY;
        let forgotten = libvirt::checkpoint_delete(&self.domain, name, flags);
        let forgotten = forgotten.unless(ErrorNumber::NoDomainCheckpoint);
        Ok(forgotten.say(|| self.cannot(&format!("forget the checkpoint `{name}` of")))?.is_some())
    }
}

/// A running copy; cancelled if dropped before its end.
pub(super) struct Run<'a> {
    domain: &'a Domain,
    over: bool,
}

impl<'a> Run<'a> {
    pub(super) fn begin(domain: &'a Domain, backup: &str, checkpoint: Option<&str>) -> Result<Self> {
        let flags = sys::VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL;
        libvirt::backup_begin(domain, backup, checkpoint, flags).said()?;
        Ok(Run { domain, over: false })
    }

    pub(super) fn follow(mut self, progress: &mut dyn FnMut(Progress) -> Result<()>) -> Result<()> {
        loop {
            interrupt::check()?;
            let job = libvirt::domain_job(self.domain, 0).said()?;
            if job.kind == sys::VIR_DOMAIN_JOB_NONE {
                break;
            }
            progress(Progress { done: job.done, total: job.total })?;
            std::thread::sleep(POLL);
        }
        self.over = true;
        let ended = libvirt::domain_job(self.domain, sys::VIR_DOMAIN_JOB_STATS_COMPLETED);
        match ended.said()?.kind {
            sys::VIR_DOMAIN_JOB_COMPLETED => Ok(()),
            sys::VIR_DOMAIN_JOB_CANCELLED => Err(Failure::user("somebody cancelled it").into()),
            _ => Err(Failure::user("QEMU could not write the copy")
                .hint("see that the pool has space, and what QEMU says in /var/log/libvirt/qemu")
                .into()),
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if !self.over {
            // If this fails, the next backup does it first.
            let _ = end(self.domain);
        }
    }
}

fn end(domain: &Domain) -> Result<bool> {
    let mut found = false;
    let started = Instant::now();
    while is_backed_up(domain).said()? {
        if started.elapsed() > PATIENCE {
            return Err(Failure::user("QEMU does not end it").into());
        }
        if !found {
            let ended = libvirt::abort_job(domain).unless(ErrorNumber::OperationInvalid);
            ended.said()?;
        }
        found = true;
        // No check for an interruption: this is how an interrupted backup ends.
        std::thread::sleep(POLL);
    }
    Ok(found)
}

fn is_backed_up(domain: &Domain) -> Answer<bool> {
    // A domain that is off has no job either.
    let job = libvirt::domain_job(domain, 0).unless(ErrorNumber::OperationInvalid)?;
    Ok(job.is_some_and(|job| {
        job.kind != sys::VIR_DOMAIN_JOB_NONE && job.operation == sys::VIR_DOMAIN_JOB_OPERATION_BACKUP
    }))
}

/// Returns whether a checkpoint of that name is nixvm's; other tools use checkpoints for their own backups.
pub fn is_own_checkpoint(name: &str) -> bool {
    let rest = name.strip_prefix(CHECKPOINTS).and_then(|rest| rest.split_once('-'));
    rest.is_some_and(|(place, _)| place.len() == 8 && place.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Returns the XML of a full backup of the only disk of a domain.
pub(super) fn single_xml(target: &str, path: &str) -> String {
    let disks =
        Definition { disks: vec![Disk { target: target.to_owned(), ..Disk::default() }], nvram: None };
    backup_xml(&disks, target, &BackupRequest { path, since: None, checkpoint: None })
}

/// Returns the XML of a backup of the data disk alone; see <https://libvirt.org/formatbackup.html>.
fn backup_xml(disks: &Definition, data: &str, request: &BackupRequest<'_>) -> String {
    let since = request.since.map(|name| format!("<incremental>{}</incremental>", escape(name)));
    let disks = disks.each(|target| {
        if target != data {
            return format!("<disk name='{target}' backup='no'/>");
        }
        let path = escape(request.path);
        format!(
            "<disk name='{target}' backup='yes' type='file'><target file='{path}'/><driver type='qcow2'/></disk>"
        )
    });
    format!("<domainbackup mode='push'>{}<disks>{disks}</disks></domainbackup>", since.unwrap_or_default())
}

/// Returns the XML of a checkpoint of the data disk alone; see <https://libvirt.org/formatcheckpoint.html>.
fn checkpoint_xml(disks: &Definition, data: &str, name: &str) -> String {
    let disks = disks.each(|target| {
        let kind = if target == data { "bitmap" } else { "no" };
        format!("<disk name='{target}' checkpoint='{kind}'/>")
    });
    format!("<domaincheckpoint><name>{}</name><disks>{disks}</disks></domaincheckpoint>", escape(name))
}

/// Returns the bytes that a checkpoint's XML says have changed on all its disks.
fn changed(xml: &str) -> Result<u64> {
    let size = |disk: &Node<'_, '_>| disk.attribute("size")?.parse::<u64>().ok();
    let sizes: Vec<u64> =
        read(xml, |root| all(root, "domaincheckpoint/disks/disk").iter().filter_map(size).collect())?;
    if sizes.is_empty() {
        return Err(Failure::user("libvirt does not say").into());
    }
    Ok(sizes.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks() -> Definition {
        let disk = |target: &str| Disk { target: target.to_owned(), ..Disk::default() };
        Definition { disks: vec![disk("vda"), disk("vdb")], nvram: None }
    }

    #[test]
    fn only_nixvms_own_checkpoints_are_taken_for_such() {
        assert!(is_own_checkpoint("nixvm-0a1b2c3d-20260121-171147"));
        for foreign in ["virtnbdbackup.0", "nixvm-before-update", "nixvm-0a1b2c3", "x-nixvm-0a1b2c3d-1"] {
            assert!(!is_own_checkpoint(foreign), "{foreign}");
        }
    }

    #[test]
    fn what_changed_is_read_from_the_checkpoint() {
        let xml = |size: &str| {
            format!(
                "<domaincheckpoint><name>one</name><disks><disk name='vda' checkpoint='no'/>\
                 <disk name='vdb' checkpoint='bitmap' bitmap='one'{size}/></disks>\
                 <domain><devices><disk size='7'/></devices></domain></domaincheckpoint>"
            )
        };
        assert_eq!(changed(&xml(" size='655360'")).unwrap(), 655_360);
        assert!(changed(&xml("")).is_err());
    }

    #[test]
    fn the_data_disk_alone_is_copied() {
        let full = BackupRequest { path: "/p/a & b", since: None, checkpoint: None };
        assert_eq!(
            backup_xml(&disks(), "vdb", &full),
            "<domainbackup mode='push'><disks><disk name='vda' backup='no'/>\
             <disk name='vdb' backup='yes' type='file'><target file='/p/a &amp; b'/><driver type='qcow2'/></disk>\
             </disks></domainbackup>"
        );
        let since = BackupRequest { since: Some("c<1"), ..full };
        assert!(backup_xml(&disks(), "vdb", &since).contains("<incremental>c&lt;1</incremental>"));
        assert_eq!(
            checkpoint_xml(&disks(), "vdb", "c<1"),
            "<domaincheckpoint><name>c&lt;1</name><disks><disk name='vda' checkpoint='no'/>\
             <disk name='vdb' checkpoint='bitmap'/></disks></domaincheckpoint>"
        );
    }
}
