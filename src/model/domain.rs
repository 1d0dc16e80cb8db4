//! libvirt's side of a machine.

use super::record::Metadata;
use super::{MacAddress, MachineId, MachineName, Network, Size, Vcpus};

/// How the names of the domains without a guest begin that nixvm copies images with.
pub const COPIER: &str = "nixvm-copy-";

/// What runs a guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor itself, through `/dev/kvm`.
    Kvm,
    /// QEMU's translator: everywhere, and some ten times slower.
    Tcg,
}

impl Accelerator {
    /// Returns libvirt's type of a domain that runs on it.
    pub fn domain_type(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "qemu",
        }
    }

    /// Returns libvirt's mode of the fullest processor that it can give a guest.
    pub fn cpu_mode(self) -> &'static str {
        match self {
            Accelerator::Kvm => "host-passthrough",
            Accelerator::Tcg => "maximum",
        }
    }

    /// Returns how many processors a guest gets for which so many are declared: emulated, it has one.
    ///
    /// QEMU gives each processor a thread of its own. *Seen* on a busy host, in some 50 boots with two processors (QEMU 7.2 and
    /// 10.0, Linux 6.12): one kernel panicked with `Oops: int3`, at an instruction that holds none any more, and one stood
    /// still, a processor no longer woken by its timer. That is what threads do that go on with a translation of code which
    /// another has replaced, as Linux does with its own all through a boot. It was not seen with one processor, and
    /// libvirt has no setting that makes the threads take turns.
    pub fn vcpus(self, declared: Vcpus) -> u32 {
        match self {
            Accelerator::Kvm => declared.get(),
            Accelerator::Tcg => 1,
        }
    }
}

/// A guest's processor architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Arch {
    /// Returns the name that libvirt, QEMU and `uname -m` use.
    pub fn as_str(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// Returns the architecture of that name, if nixvm builds for it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Arch::X86_64, Arch::Aarch64].into_iter().find(|arch| arch.as_str() == name)
    }

    /// Returns QEMU's machine type for machines on this architecture.
    pub fn machine_type(self) -> &'static str {
        match self {
            Arch::X86_64 => "q35",
            Arch::Aarch64 => "virt",
        }
    }

    /// Returns Nix's name of a Linux on this architecture.
    pub fn nix_system(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64-linux",
            Arch::Aarch64 => "aarch64-linux",
        }
    }
}

/// A domain's state, under libvirt's names (`virDomainState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainState {
    /// Not known.
    NoState,
    /// Running.
    Running,
    /// Waiting for a resource; it is up.
    Blocked,
    /// Paused by someone.
    Paused,
    /// On its way down, and still up.
    Shutdown,
    /// Off.
    Shutoff,
    /// Off, with the guest's memory on disk: its next start goes on from there (libvirt calls it a managed save).
    Saved,
    /// Off, and not by its own will.
    Crashed,
    /// Asleep.
    PmSuspended,
}

impl DomainState {
    /// Returns whether the disks may be in use; in doubt, they are.
    pub fn is_active(self) -> bool {
        !matches!(self, DomainState::Shutoff | DomainState::Saved | DomainState::Crashed)
    }

    /// Returns whether something in the guest can answer: it is up and does not stand still.
    pub fn can_answer(self) -> bool {
        self.is_active() && !matches!(self, DomainState::Paused | DomainState::PmSuspended)
    }
}

/// Writes the state as people call it.
impl std::fmt::Display for DomainState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            DomainState::NoState => "unknown",
            DomainState::Running => "running",
            DomainState::Blocked => "blocked",
            DomainState::Paused => "paused",
            DomainState::Shutdown => "shutting down",
            DomainState::Shutoff => "off",
            DomainState::Saved => "saved",
            DomainState::Crashed => "crashed",
            DomainState::PmSuspended => "asleep",
        })
    }
}

/// The files of a domain: absolute paths on its host, as the pool gives them.
///
/// Paths, not volumes in a pool: libvirt's AppArmor driver writes the profile that confines QEMU by the definition alone, asks no
/// pool, and leaves a disk out that is a volume (libvirt 9.0 to 11, `src/security/virt-aa-helper.c`). QEMU is then denied the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainFiles {
    /// The boot volume of the current generation.
    pub boot: String,
    /// The layer of data that it writes to.
    pub data: String,
    /// The identity volume.
    pub identity: String,
    /// The firmware's variables.
    pub nvram: String,
    /// What the guest prints on its serial port.
    pub serial_log: String,
}

/// Everything a domain's XML is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainSpec {
    /// The domain's name.
    pub name: MachineName,
    /// The domain's UUID.
    pub machine_id: MachineId,
    /// The guest's architecture.
    pub arch: Arch,
    /// What runs it.
    pub accelerator: Accelerator,
    /// Its memory, whole MiB.
    pub memory: Size,
    /// Its processors.
    pub vcpus: Vcpus,
    /// Its network.
    pub network: Network,
    /// Its network card's address.
    pub mac: MacAddress,
    /// Its files.
    pub files: DomainFiles,
    /// Whose it is.
    pub metadata: Metadata,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_on_its_way_down_still_holds_its_disks() {
        assert!(DomainState::Shutdown.is_active());
        assert!(DomainState::Paused.is_active() && !DomainState::Paused.can_answer());
        assert!(DomainState::NoState.is_active());
        assert!(!DomainState::Shutoff.is_active());
        assert!(!DomainState::Crashed.is_active() && !DomainState::Saved.is_active());
    }

    #[test]
    fn architectures_go_by_one_name() {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            assert_eq!(Arch::from_name(arch.as_str()), Some(arch));
            assert_eq!(serde_json::to_value(arch).unwrap(), arch.as_str());
            assert_eq!(arch.nix_system(), format!("{}-linux", arch.as_str()));
        }
        assert_eq!(Arch::from_name("riscv64"), None);
    }
}
