//! Images copied by a QEMU that is started for it and has no guest.
//!
//! Unlike `qemu-img` run by libvirt it writes into a file that has its mode
//! already, says how far it is, can be stopped, and ends with nixvm.

use virt::sys;

use super::backup::{Run, single_xml};
use super::{Hypervisor, escape};
use crate::error::{Explain, Failure, Result};
use crate::libvirt::Say;
use crate::model::domain::{Accelerator, Arch, COPIER};
use crate::model::{MachineId, Progress};

impl Hypervisor {
    /// Fills the empty qcow2 image at the path `to` with what the one at `from`, and all that it lies on, shows.
    ///
    /// Both are on the hypervisor, and no guest writes to either. An error of `progress` or an interruption ends it.
    ///
    /// # Errors
    /// An image cannot be opened, there is no space, or `progress` refuses to go on.
    pub fn copy_image(
        &self,
        accelerator: Accelerator,
        from: &str,
        to: &str,
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<()> {
        let say = || Failure::user(format!("cannot copy the image `{from}`"));
        let xml = copier_xml(self.arch()?, accelerator, MachineId::generate(), from);
        // It never runs: opening the image is enough.
        let flags = sys::VIR_DOMAIN_START_AUTODESTROY | sys::VIR_DOMAIN_START_PAUSED;
        let domain = self.connection().create_domain_xml(&xml, flags).say(say)?;
        let copied = Run::begin(&domain, &single_xml("vda", to), None).and_then(|run| run.follow(progress));
        // If this fails, libvirt does it when the connection ends.
        let _ = domain.destroy();
        copied.explain(say)
    }
}

/// Returns a domain with a disk that is only read, and no firmware of its own that would leave a file behind.
pub(super) fn copier_xml(arch: Arch, accelerator: Accelerator, id: MachineId, from: &str) -> String {
    let kind = match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "qemu",
    };
    let machine = match arch {
        Arch::X86_64 => "q35",
        Arch::Aarch64 => "virt",
    };
    let (arch, uuid, from) = (arch.as_str(), id.to_uuid(), escape(from));
    format!(
        "<domain type='{kind}'>
  <name>{COPIER}{uuid}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>32</memory>
  <vcpu>1</vcpu>
  <os><type arch='{arch}' machine='{machine}'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='{from}'/>
      <target dev='vda' bus='virtio'/>
      <readonly/>
    </disk>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
"
    )
}
