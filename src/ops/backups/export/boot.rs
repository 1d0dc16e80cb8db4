//! The script that boots exported images, which also says what another hypervisor needs to know of them.

use crate::hypervisor::{BOOT, DATA, IDENTITY};
use crate::model::Machine;
use crate::model::domain::Arch;
use crate::storage::Format;

/// The names of an export's images.
#[derive(Debug, Clone)]
pub(super) struct Images {
    pub(super) system: String,
    pub(super) data: String,
    pub(super) identity: String,
}

impl Images {
    pub(super) fn of(format: Format) -> Self {
        let named = |disk: &str, format: Format| format!("{disk}.{}", format.as_str());
        Images {
            system: named("system", format),
            data: named("data", format),
            identity: named("identity", Format::Raw),
        }
    }

    /// Returns each image with the serial number by which the guest finds it.
    pub(super) fn serials(&self) -> [(&str, &'static str); 3] {
        [(&self.system, BOOT), (&self.data, DATA), (&self.identity, IDENTITY)]
    }
}

/// Returns a script for a POSIX shell that boots the images beside it by plain QEMU.
///
/// Every value in it is of a checked type that holds no character which a shell would read as its own.
pub(super) fn script(machine: &Machine, arch: Arch, format: Format) -> String {
    let Machine { name, mac, vcpus, .. } = machine;
    let Images { system, data, identity } = Images::of(format);
    let (memory, format) = (machine.memory.mib(), format.as_str());
    let (qemu, kind, firmware) = match arch {
        Arch::X86_64 => ("qemu-system-x86_64", "q35", "/usr/share/ovmf/OVMF.fd"),
        Arch::Aarch64 => ("qemu-system-aarch64", "virt", "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"),
    };
    format!(
        r#"#!/bin/sh
# Boots the machine `{name}` by plain QEMU, on this terminal; C-a x ends it. Arguments go to QEMU.
#
#   FIRMWARE   a UEFI firmware for QEMU's -bios [default: {firmware}]
#   ACCEL      what runs the guest: kvm, or tcg,thread=single where KVM does not work [default: kvm if it is there]
#   SSH_PORT   the port of 127.0.0.1 that leads to the guest's ssh [default: 2222]
#
# Whatever runs these images has to boot by UEFI, without secure boot, and to give each its disk on virtio-blk with the serial
# number by which the guest finds it:
#
#   {system:<14}{BOOT:<16}the system; read-only
#   {data:<14}{DATA:<16}/var, with all homes; the only disk that is written to
#   {identity:<14}{IDENTITY:<16}the ssh host key and the hash of root's password; read-only
#
# Both this and the machine that nixvm runs have these keys, names and addresses: never run them in one network at once.
set -eu
cd -- "$(dirname -- "$0")"
firmware=${{FIRMWARE:-{firmware}}}
if ! [ -r "$firmware" ]; then
  echo "error: there is no UEFI firmware at $firmware; set FIRMWARE to one" >&2
  exit 1
fi
exec {qemu} -name {name} -machine {kind} -accel "${{ACCEL:-kvm}}" -accel tcg,thread=single -cpu max -smp {vcpus} -m {memory} \
  -nographic -bios "$firmware" \
  -blockdev driver={format},node-name=system,read-only=on,file.driver=file,file.filename={system} \
  -device virtio-blk-pci,drive=system,serial={BOOT},bootindex=1 \
  -blockdev driver={format},node-name=data,discard=unmap,detect-zeroes=unmap,file.driver=file,file.filename={data} \
  -device virtio-blk-pci,drive=data,serial={DATA} \
  -blockdev driver=raw,node-name=identity,read-only=on,file.driver=file,file.filename={identity} \
  -device virtio-blk-pci,drive=identity,serial={IDENTITY} \
  -netdev "user,id=net,hostfwd=tcp:127.0.0.1:${{SSH_PORT:-2222}}-:22" -device virtio-net-pci,netdev=net,mac={mac} \
  -device virtio-rng-pci "$@"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Command;

    #[test]
    fn a_shell_can_read_the_script_and_no_disk_is_without_its_serial_number() {
        let machine = crate::model::sample::machine();
        for (arch, qemu) in [(Arch::X86_64, "qemu-system-x86_64"), (Arch::Aarch64, "qemu-system-aarch64")] {
            let text = script(&machine, arch, Format::Qcow2);
            Command::new("sh").args(["-n", "-c", &text]).output().unwrap();
            assert!(text.contains(&format!("exec {qemu} -name web ")), "{text}");
            for (file, serial) in Images::of(Format::Qcow2).serials() {
                assert!(
                    text.contains(&format!("filename={file} "))
                        && text.contains(&format!(",serial={serial}")),
                    "{text}"
                );
            }
        }
    }
}
