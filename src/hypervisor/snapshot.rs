//! A running machine's data disk is switched to an overlay; the image below it is frozen from then on.
//!
//! libvirt is told to record no snapshot of its own: below version 10.9 it cannot
//! go back to one on a guest with UEFI. Only the files themselves tell the chain.

use std::time::{Duration, Instant};

use virt::domain_snapshot::DomainSnapshot;
use virt::sys;

use super::definition::Definition;
use super::{Owned, Seen};
use crate::error::{Explain, Result};
use crate::libvirt::xml::escape;
use crate::libvirt::{Answer, Say};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switched {
    pub took: Duration,
    /// Whether the guest wrote everything to its disk before, and was frozen meanwhile.
    pub quiesced: bool,
}

impl Seen {
    /// Returns the names of libvirt's own snapshots of the machine, each behind its parent: all are another tool's.
    ///
    /// With `external` only those that make the machine write to another file.
    pub fn foreign_snapshots(&self, external: bool) -> Result<Vec<String>> {
        let flags = sys::VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL
            | if external { sys::VIR_DOMAIN_SNAPSHOT_LIST_EXTERNAL } else { 0 };
        let names = || self.domain.list_all_snapshots(flags)?.iter().map(DomainSnapshot::name).collect();
        let names: Answer<Vec<String>> = names();
        names.say(|| self.cannot("list the snapshots of"))
    }
}

impl Owned {
    /// Has the running machine write to the overlay at `overlay_path` from now on.
    ///
    /// The overlay must exist, be empty, and be backed by the volume that is written now. libvirt changes the running
    /// machine and the definition in one step: if nixvm is killed meanwhile, both are done or neither is.
    ///
    /// With `quiesce` the guest writes out dirty data first and is frozen meanwhile. libvirt does that, and not nixvm by
    /// [`Owned::freeze`], so that the guest is thawed also if nixvm is killed. If the guest's agent does not answer, the
    /// frozen image is as after a power cut.
    ///
    /// # Errors
    /// The machine is off, `overlay_path` is no image that QEMU can open, the agent cannot freeze, or libvirt fails.
    pub fn switch_data(&self, overlay_path: &str, quiesce: bool) -> Result<Switched> {
        let say = || self.cannot("switch the data disk of");
        let disks = self.live_disks()?;
        let xml = snapshot_xml(&disks, &disks.data().explain(say)?.target, overlay_path);
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
fn snapshot_xml(disks: &Definition, data: &str, overlay_path: &str) -> String {
    let disks = disks.each(|target| {
        if target != data {
            // Else libvirt would take one of every disk.
            return format!("<disk name='{target}' snapshot='no'/>");
        }
        let path = escape(overlay_path);
        format!("<disk name='{target}' snapshot='external' type='file'><driver type='qcow2'/><source file='{path}'/></disk>")
    });
    format!("<domainsnapshot><disks>{disks}</disks></domainsnapshot>")
}

#[cfg(test)]
mod tests {
    use super::super::definition::{DATA, Disk};
    use super::*;

    fn disk(serial: Option<&str>, target: &str) -> Disk {
        Disk { serial: serial.map(str::to_owned), target: target.to_owned(), ..Disk::default() }
    }

    #[test]
    fn the_data_disk_alone_is_switched() {
        let disks = vec![disk(Some("nixvm-boot"), "vda"), disk(Some(DATA), "vdb"), disk(None, "sda")];
        let disks = Definition { disks, nvram: None };
        let xml = snapshot_xml(&disks, &disks.data().unwrap().target, "/p/it's & <odd>");
        assert_eq!(
            xml,
            "<domainsnapshot><disks><disk name='vda' snapshot='no'/>\
             <disk name='vdb' snapshot='external' type='file'><driver type='qcow2'/>\
             <source file='/p/it&apos;s &amp; &lt;odd&gt;'/></disk>\
             <disk name='sda' snapshot='no'/></disks></domainsnapshot>"
        );
        assert!(Definition { disks: vec![disk(None, "vda")], nvram: None }.data().is_err());
    }
}
