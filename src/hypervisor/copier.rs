//! Copies of images, made by a QEMU without a guest.
//!
//! Unlike `qemu-img` run by libvirt it writes into a file whose mode is set
//! already, reports its progress, can be stopped, and ends with nixvm.

use virt::sys;

use super::Hypervisor;
use super::backup::{Run, single_xml};
use crate::error::{Explain, Failure, Result};
use crate::libvirt::Say;
use crate::libvirt::xml::escape;
use crate::model::domain::{Accelerator, Arch, COPIER};
use crate::model::{MachineId, Progress};

impl Hypervisor {
    /// Copies the disk in the image at the path `from` and its backing files into the empty qcow2 image at `to`.
    ///
    /// Both are on the hypervisor, and no guest may write to either. An error of `progress` or an interruption ends it.
    pub fn copy_image(
        &self,
        accelerator: Accelerator,
        from: &str,
        to: &str,
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<()> {
        let say = || Failure::user(format!("cannot copy the image `{from}`"));
        let xml = copier_xml(self.arch()?, accelerator, MachineId::generate(), from);
        // The guest never runs: QEMU only has to open the image.
        let flags = sys::VIR_DOMAIN_START_AUTODESTROY | sys::VIR_DOMAIN_START_PAUSED;
        let domain = self.connection().create_domain_xml(&xml, flags).say(say)?;
        let copied = Run::begin(&domain, &single_xml("vda", to), None).and_then(|run| run.follow(progress));
        // If this fails, libvirt does it when the connection closes.
        let _ = domain.destroy();
        copied.explain(say)
    }
}

/// Returns a domain with a read-only disk, and without UEFI firmware, which would leave an NVRAM file behind.
pub(super) fn copier_xml(arch: Arch, accelerator: Accelerator, id: MachineId, from: &str) -> String {
    let (kind, machine) = (accelerator.domain_type(), arch.machine_type());
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
