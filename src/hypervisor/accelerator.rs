//! Whether KVM really runs guests on this host.
//!
//! With incomplete nested virtualization `/dev/kvm` can be opened, and then
//! guests die or hang. So a probe guest decides: the firmware that machines boot
//! with, and no disks. Where KVM works, it prints on its serial port within a
//! second or two.

use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use virt::error::Error;
use virt::sys;

use super::domain::state;
use super::exchange::Exchange;
use super::{Hypervisor, exchange};
use crate::error::{Failure, Result};
use crate::interrupt;
use crate::libvirt::Say;
use crate::libvirt::xml::{read, text};
use crate::model::MachineId;
use crate::model::domain::{Accelerator, Arch, DomainState};

/// How long the firmware may take to print: on two busy cores it takes seven seconds even without KVM.
const LIMIT: Duration = Duration::from_secs(10);

const CONTROL_LIMIT: Duration = Duration::from_secs(30);

const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Probe {
    pub accelerator: Accelerator,
    pub reason: String,
    /// Whether the result is reliable: if the guest does not come up without KVM either, the probe shows nothing about KVM.
    pub certain: bool,
}

impl Hypervisor {
    /// Returns what guests of `arch` should run on: KVM only if a probe guest comes up under it.
    ///
    /// Takes a second or two where KVM works and 10 seconds where it hangs; where it fails, the same guest is tried without
    /// it for some more seconds. The probe's guest has no disk and no network, and libvirt ends it if this process dies.
    pub fn probe_accelerator(&self, arch: Arch) -> Result<Probe> {
        let offered = self.connection().domain_capabilities(None, Some(arch.as_str()), None, Some("kvm"), 0);
        if let Err(error) = offered {
            let reason = format!("libvirt offers no KVM ({})", first_line(error.message()));
            return Ok(Probe { accelerator: Accelerator::Tcg, reason, certain: true });
        }
        let reason = match self.life_under(arch, Accelerator::Kvm, LIMIT)? {
            Life::Seen(after) => {
                let reason = format!("a guest ran under KVM within {:.1} s", after.as_secs_f32());
                return Ok(Probe { accelerator: Accelerator::Kvm, reason, certain: true });
            }
            Life::NotStarted(error) => {
                format!("no guest starts under KVM ({})", first_line(error.message()))
            }
            Life::Died(DomainState::Paused) => "KVM stopped the guest with an error".into(),
            Life::Died(_) => "the guest died under KVM".into(),
            Life::Silent => format!("a guest hung under KVM for {} s", LIMIT.as_secs()),
        };
        // On a host that is too busy, or has too little memory, every guest fails.
        let certain = matches!(self.life_under(arch, Accelerator::Tcg, CONTROL_LIMIT), Ok(Life::Seen(_)));
        interrupt::check()?;
        let again = if certain {
            ""
        } else {
            "; a guest without KVM did not come up either, so the next command tries again"
        };
        Ok(Probe { accelerator: Accelerator::Tcg, reason: reason + again, certain })
    }

    /// Returns whether libvirt knows UEFI firmware for guests of `arch`.
    ///
    /// # Errors
    /// libvirt has no QEMU for that architecture, or does not answer.
    pub fn has_uefi(&self, arch: Arch) -> Result<bool> {
        let capabilities = self
            .connection()
            .domain_capabilities(None, Some(arch.as_str()), Some(arch.machine_type()), None, 0)
            .say(|| {
                Failure::user("cannot ask libvirt what it runs")
                    .hint("install QEMU: `./quickstart --no-machine`")
            })?;
        Ok(offers_uefi(&capabilities))
    }

    /// Returns a hint if QEMU's user cannot open this host's `/dev/kvm`, as on a host without udev.
    ///
    /// Guests without KVM are not the only cost. libvirt's own probe runs with more rights than its guests and finds KVM; then
    /// libvirt sees that guests have none, discards the probe and repeats it, at every call: a guest takes 57 seconds to
    /// start instead of one.
    pub fn kvm_device_hint(&self) -> Option<&'static str> {
        if !self.is_local() || self.is_session() {
            return None;
        }
        let device = std::fs::metadata("/dev/kvm").ok()?;
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        is_closed(device.mode(), device.gid(), kvm_group(&groups)).then_some(
            "let QEMU use KVM, as udev would: `sudo chgrp kvm /dev/kvm && sudo chmod 0660 /dev/kvm`",
        )
    }

    fn life_under(&self, arch: Arch, accelerator: Accelerator, limit: Duration) -> Result<Life> {
        let say = || Failure::user("cannot try out KVM");
        let xml = probe_xml(arch, accelerator, std::process::id(), MachineId::generate());
        // Paused, so that nothing is printed before this listens.
        let flags = sys::VIR_DOMAIN_START_AUTODESTROY | sys::VIR_DOMAIN_START_PAUSED;
        let _cleaner = Cleaner { hypervisor: self, xml: &xml };
        let domain = match self.connection().create_domain_xml(&xml, flags) {
            Ok(domain) => domain,
            Err(error) => return Ok(Life::NotStarted(error)),
        };
        let enough = Box::new(|_: &[u8]| Ok(ControlFlow::Break(())));
        let port = Exchange::open(self.connection(), &domain, true, enough)?;
        let start = Instant::now();
        domain.resume().say(say)?;
        while start.elapsed() < limit {
            interrupt::check()?;
            match port.run(Some(LOOK))? {
                Some(exchange::End::Caller) => return Ok(Life::Seen(start.elapsed())),
                Some(_) => return Ok(Life::Died(DomainState::Shutoff)),
                None => match state(&domain) {
                    Ok(DomainState::Running) => {}
                    Ok(state) => return Ok(Life::Died(state)),
                    Err(_) => return Ok(Life::Died(DomainState::Shutoff)),
                },
            }
        }
        Ok(Life::Silent)
    }
}

#[derive(Debug)]
enum Life {
    Seen(Duration),
    NotStarted(Error),
    Died(DomainState),
    Silent,
}

/// Returns whether QEMU cannot open the device: neither the group `kvm`, which it has in every distribution, nor everybody may.
fn is_closed(mode: u32, group: u32, kvm: Option<u32>) -> bool {
    let by_group = mode & 0o060 == 0o060 && kvm.is_none_or(|kvm| kvm == group);
    !by_group && mode & 0o006 != 0o006
}

/// Returns the number of the group `kvm` in a file as group(5) describes it.
fn kvm_group(file: &str) -> Option<u32> {
    file.lines().find_map(|line| line.strip_prefix("kvm:")?.split(':').nth(1)?.parse().ok())
}

/// Returns the first line of a message, which may quote all of QEMU's output.
fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

/// Ends the probe's guest when dropped, and removes its NVRAM file.
struct Cleaner<'a> {
    hypervisor: &'a Hypervisor,
    xml: &'a str,
}

impl Drop for Cleaner<'_> {
    fn drop(&mut self) {
        // A transient domain's NVRAM file outlives it, even if QEMU never started. Undefining removes the file, and needs a
        // definition. If this fails, libvirt still ends the guest with the connection.
        if let Ok(domain) = self.hypervisor.connection().define_domain_xml(self.xml) {
            let _ = domain.destroy();
            let _ = domain.undefine_flags(sys::VIR_DOMAIN_UNDEFINE_NVRAM);
        }
    }
}

/// Returns whether domain capabilities list `efi` among the firmwares that libvirt chooses from.
fn offers_uefi(capabilities: &str) -> bool {
    let offers = read(capabilities, |root| {
        let mut enums = root.descendants().filter(|node| node.has_tag_name("enum"));
        enums.any(|list| {
            list.attribute("name") == Some("firmware") && list.children().any(|value| text(value) == "efi")
        })
    });
    offers.unwrap_or(false)
}

/// Returns the probe's domain: like a machine's in everything that depends on the accelerator, and minimal otherwise.
pub(super) fn probe_xml(arch: Arch, accelerator: Accelerator, pid: u32, id: MachineId) -> String {
    let (kind, cpu) = (accelerator.domain_type(), accelerator.cpu_mode());
    let machine = arch.machine_type();
    let (arch, uuid) = (arch.as_str(), id.to_uuid());
    format!(
        "<domain type='{kind}'>
  <name>nixvm-probe-{pid}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os firmware='efi'>
    <type arch='{arch}' machine='{machine}'>hvm</type>
    <firmware><feature enabled='no' name='secure-boot'/></firmware>
  </os>
  <features><acpi/></features>
  <cpu mode='{cpu}'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <serial type='pty'/>
    <memballoon model='none'/>
  </devices>
</domain>
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_only_others_may_open_is_closed() {
        let kvm = kvm_group("root:x:0:\nkvm:x:107:\nlibvirt:x:112:\n");
        assert_eq!((kvm, kvm_group("x:kvm:1:\n")), (Some(107), None));
        for (mode, group, closed) in [
            (0o20600, 107, true),
            (0o20640, 107, true),
            (0o20660, 107, false),
            // A group of another system's, as in a container.
            (0o20660, 993, true),
            (0o20666, 993, false),
            (0o20606, 0, false),
        ] {
            assert_eq!(is_closed(mode, group, kvm), closed, "{mode:o} {group}");
        }
        assert!(!is_closed(0o20660, 993, None), "without that group nobody can tell");
    }

    #[test]
    fn firmware_that_libvirt_would_choose_is_read_from_its_capabilities() {
        let os = |values: &str| {
            format!(
                "<domainCapabilities><os><enum name='firmware'>{values}</enum><enum name='x'><value>efi</value></enum></os></domainCapabilities>"
            )
        };
        assert!(offers_uefi(&os("<value>bios</value><value>efi</value>")));
        assert!(!offers_uefi(&os("<value>bios</value>")));
        assert!(!offers_uefi(&os("")));
    }

    #[test]
    #[ignore = "needs qemu:///system and takes some seconds"]
    fn the_probe_sees_a_guest_that_lives() {
        let hypervisor = Hypervisor::open("qemu:///system").unwrap();
        let arch = hypervisor.arch().unwrap();
        let life = hypervisor.life_under(arch, Accelerator::Tcg, LIMIT).unwrap();
        assert!(
            matches!(life, Life::Seen(_)),
            "the probe's guest says nothing even where guests run: {life:?}"
        );
        let probe = hypervisor.probe_accelerator(arch).unwrap();
        println!("the firmware printed under TCG: {life:?}; {probe:?}");
        assert!(probe.certain, "a guest comes up here: {probe:?}");
        let soon = hypervisor.life_under(arch, Accelerator::Tcg, Duration::from_millis(600)).unwrap();
        assert!(matches!(soon, Life::Silent), "nothing can come this early");
        let name = format!("nixvm-probe-{}", std::process::id());
        assert!(hypervisor.connection().lookup_domain_by_name(&name).is_err());
    }
}
