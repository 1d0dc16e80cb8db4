//! libvirt's side of a machine.

use super::record::Metadata;
use super::{MacAddress, MachineId, MachineName, Network, Size, Vcpus};

/// Names of the domains without a guest by which nixvm copies images begin with this.
pub const COPIER: &str = "nixvm-copy-";

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    Kvm,
    /// QEMU's translator: available everywhere, some ten times slower.
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

    /// Returns the number of processors that a guest gets: an emulated guest gets one.
    ///
    /// QEMU emulates each processor on its own thread. In some 50 boots with two processors on a busy host (QEMU 7.2 and
    /// 10.0, Linux 6.12), one kernel panicked with `Oops: int3` where the breakpoint was already gone, and one hung because
    /// its timer no longer woke a processor. The likely reason: a thread continues with a translation of code that another
    /// has replaced, as Linux does with its own code during a boot. One processor never showed this, and libvirt has no
    /// setting that makes the threads take turns.
    pub fn vcpus(self, declared: Vcpus) -> u32 {
        match self {
            Accelerator::Kvm => declared.get(),
            Accelerator::Tcg => 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    /// The name that libvirt, QEMU and `uname -m` use.
    pub fn as_str(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

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
    NoState,
    Running,
    /// Waiting for a resource; it is up.
    Blocked,
    Paused,
    /// On its way down, but still up.
    Shutdown,
    Shutoff,
    /// Off, with the guest's memory on disk: its next start resumes from there (libvirt's managed save).
    Saved,
    Crashed,
    PmSuspended,
}

impl DomainState {
    /// Returns whether the disks may be in use; in doubt, they are.
    pub fn is_active(self) -> bool {
        !matches!(self, DomainState::Shutoff | DomainState::Saved | DomainState::Crashed)
    }

    /// Returns whether something in the guest can answer: it is up and not paused.
    pub fn can_answer(self) -> bool {
        self.is_active() && !matches!(self, DomainState::Paused | DomainState::PmSuspended)
    }
}

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
/// libvirt's AppArmor driver writes the profile that confines QEMU from the definition alone. It asks no pool and leaves out
/// a disk that is defined as a volume (libvirt 9.0 to 11, `src/security/virt-aa-helper.c`); QEMU could then not open the
/// disk. So disks are defined by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainFiles {
    /// Of the current generation.
    pub boot: String,
    /// The topmost layer.
    pub data: String,
    pub identity: String,
    pub nvram: String,
    pub serial_log: String,
}

/// Everything a domain's XML is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainSpec {
    pub name: MachineName,
    pub machine_id: MachineId,
    pub arch: Arch,
    pub accelerator: Accelerator,
    /// In whole MiB.
    pub memory: Size,
    pub vcpus: Vcpus,
    pub network: Network,
    pub mac: MacAddress,
    pub files: DomainFiles,
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
