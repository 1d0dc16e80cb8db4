//! A running machine's data disk goes on in an overlay, and what was written so far stands still.
//!
//! libvirt records no snapshot of its own: below version 10.9 it cannot go back
//! to one on a guest with UEFI. What lies on what is told by the files alone.

use std::time::{Duration, Instant};

use virt::domain_snapshot::DomainSnapshot;
use virt::error::Error;
use virt::sys;

use super::definition::{DATA, Definition};
use super::{Owned, Seen, escape};
use crate::error::{Failure, Result};
use crate::libvirt::Say;

/// How a machine came to write to another image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switched {
    /// How long that took.
    pub took: Duration,
    /// Whether the guest wrote out everything before, and stood still meanwhile.
    pub quiesced: bool,
}

impl Seen {
    /// Returns the names of the snapshots that libvirt knows of the machine, each behind its parent: all are another tool's.
    ///
    /// With `external` only those which have the machine write to a file of their own.
    ///
    /// # Errors
    /// libvirt does not answer.
    pub fn foreign_snapshots(&self, external: bool) -> Result<Vec<String>> {
        let flags = sys::VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL
            | if external { sys::VIR_DOMAIN_SNAPSHOT_LIST_EXTERNAL } else { 0 };
        let names = || self.domain.list_all_snapshots(flags)?.iter().map(DomainSnapshot::name).collect();
        let names: std::result::Result<Vec<String>, Error> = names();
        names.say(|| self.cannot("list the snapshots of"))
    }
}

impl Owned {
    /// Has the running machine write to the overlay at `overlay_path` from now on.
    ///
    /// The overlay is there already, lies on the volume that is written now, and is empty. libvirt changes what runs
    /// and the definition by one step: should nixvm be killed meanwhile, both are done or neither is.
    ///
    /// With `quiesce` the guest writes out what is dirty, and stands still for as long as this takes. libvirt sees to
    /// that, and not nixvm by [`Owned::freeze`], so that the guest is thawed also if nixvm is killed. A guest whose
    /// agent does not answer is as after a power cut.
    ///
    /// # Errors
    /// The machine is off, `overlay_path` is no image that QEMU can open, the agent cannot freeze, or libvirt fails.
    pub fn switch_data(&self, overlay_path: &str, quiesce: bool) -> Result<Switched> {
        let say = || self.cannot("switch the data disk of");
        let disks = self.live_disks()?;
        let xml = snapshot_xml(&disks, overlay_path).ok_or_else(|| {
            say().because(Failure::user(format!("it has no disk with the serial number `{DATA}`")))
        })?;
        let quiesced = quiesce && self.agent_answers();
        if quiesced {
            self.write_out();
        }
        let flags = sys::VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
            | sys::VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
            | sys::VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
            | sys::VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
            | if quiesced { sys::VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE } else { 0 };
        let start = Instant::now();
        self.domain.create_snapshot_xml(&xml, flags).say(say)?;
        Ok(Switched { took: start.elapsed(), quiesced })
    }
}

/// Returns the XML of a snapshot of the data disk alone; see <https://libvirt.org/formatsnapshot.html>.
fn snapshot_xml(disks: &Definition, overlay_path: &str) -> Option<String> {
    let data = &disks.disk(DATA)?.target;
    let mut xml = "<domainsnapshot><disks>".to_owned();
    for disk in &disks.disks {
        let target = escape(&disk.target);
        xml += &match disk.target == *data {
            true => format!(
                "<disk name='{target}' snapshot='external' type='file'><driver type='qcow2'/><source file='{}'/></disk>",
                escape(overlay_path)
            ),
            // Else libvirt would take one of every disk.
            false => format!("<disk name='{target}' snapshot='no'/>"),
        };
    }
    Some(xml + "</disks></domainsnapshot>")
}

#[cfg(test)]
mod tests {
    use super::super::definition::Disk;
    use super::*;

    fn disk(serial: Option<&str>, target: &str) -> Disk {
        Disk { serial: serial.map(str::to_owned), target: target.to_owned(), ..Disk::default() }
    }

    #[test]
    fn the_data_disk_alone_is_switched() {
        let disks = vec![disk(Some("nixvm-boot"), "vda"), disk(Some(DATA), "vdb"), disk(None, "sda")];
        let xml = snapshot_xml(&Definition { disks, nvram: None }, "/p/it's & <odd>").unwrap();
        assert_eq!(
            xml,
            "<domainsnapshot><disks><disk name='vda' snapshot='no'/>\
             <disk name='vdb' snapshot='external' type='file'><driver type='qcow2'/>\
             <source file='/p/it&apos;s &amp; &lt;odd&gt;'/></disk>\
             <disk name='sda' snapshot='no'/></disks></domainsnapshot>"
        );
        assert_eq!(snapshot_xml(&Definition { disks: vec![disk(None, "vda")], nvram: None }, "/p"), None);
    }
}
