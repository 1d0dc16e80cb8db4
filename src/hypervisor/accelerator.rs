//! Does KVM run a guest here, or is there only a `/dev/kvm`?
//!
//! Nested virtualization that is half there opens the device, and then its
//! guests die or hang. So a guest decides: the firmware that machines boot
//! with, and no disks. It prints on its serial port within a second or two
//! where KVM works.

use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use quick_xml::Reader;
use quick_xml::events::Event;
use virt::error::Error;
use virt::sys;

use super::domain::state;
use super::exchange::Exchange;
use super::{Hypervisor, exchange};
use crate::error::{Failure, Result};
use crate::interrupt;
use crate::libvirt::Say;
use crate::model::MachineId;
use crate::model::domain::{Accelerator, Arch, DomainState};

/// The longest time the firmware is waited for: on two busy cores it takes seven seconds even without KVM.
const LIMIT: Duration = Duration::from_secs(10);

/// The longest time it is waited for without KVM.
const CONTROL_LIMIT: Duration = Duration::from_secs(30);

/// How often the guest is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(250);

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Probe {
    /// What guests have to run on.
    pub accelerator: Accelerator,
    /// Why, for people.
    pub reason: String,
    /// Whether the next probe would find the same: a guest that came up under neither says nothing of KVM.
    pub certain: bool,
}

impl Hypervisor {
    /// Returns what runs guests of `arch` here: KVM only if a guest under it shows a sign of life.
    ///
    /// Takes a second or two where KVM works, 10 seconds where it hangs; where it fails, the same guest is tried without it,
    /// for another few seconds. The probe's guest has no disk
    /// and no network, and libvirt ends it if this process dies.
    ///
    /// # Errors
    /// libvirt does not answer, or an interruption.
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
        // A host without memory to spare, or too busy, fails every guest.
        let certain = matches!(self.life_under(arch, Accelerator::Tcg, CONTROL_LIMIT), Ok(Life::Seen(_)));
        interrupt::check()?;
        let again =
            if certain { "" } else { "; nor did one without KVM come up, so the next command tries again" };
        Ok(Probe { accelerator: Accelerator::Tcg, reason: reason + again, certain })
    }

    /// Returns whether guests of `arch` can boot by UEFI: whether libvirt knows a firmware for them.
    ///
    /// # Errors
    /// libvirt does not answer, or has no QEMU for that architecture.
    pub fn has_uefi(&self, arch: Arch) -> Result<bool> {
        let capabilities = self
            .connection()
            .domain_capabilities(None, Some(arch.as_str()), Some(machine_type(arch)), None, 0)
            .say(|| {
                Failure::user("cannot ask libvirt what it runs")
                    .hint("install QEMU: `./quickstart --no-machine`")
            })?;
        Ok(offers_uefi(&capabilities))
    }

    /// Returns what to do about a `/dev/kvm` of this host that QEMU's user cannot open.
    ///
    /// Such a device costs more than KVM. libvirt's own probe runs with more rights than its guests, finds KVM, sees that
    /// guests have none, throws its probe away and begins again, for every call: 57 seconds to start a guest instead of
    /// one. A host without udev has such a device.
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
        // Paused, so that nothing is printed before someone listens.
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

/// Returns whether neither everybody may read and write nor the group `kvm`, in which every distribution has QEMU.
fn is_closed(mode: u32, group: u32, kvm: Option<u32>) -> bool {
    let by_group = mode & 0o060 == 0o060 && kvm.is_none_or(|kvm| kvm == group);
    !by_group && mode & 0o006 != 0o006
}

/// Returns the number of the group `kvm`, from a file as group(5) describes it.
fn kvm_group(file: &str) -> Option<u32> {
    file.lines().find_map(|line| line.strip_prefix("kvm:")?.split(':').nth(1)?.parse().ok())
}

/// Returns the beginning of a message, which may quote all that QEMU said.
fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

/// Ends the probe's guest when dropped, and removes what libvirt keeps of it.
struct Cleaner<'a> {
    hypervisor: &'a Hypervisor,
    xml: &'a str,
}

impl Drop for Cleaner<'_> {
    fn drop(&mut self) {
        // A transient domain's NVRAM file outlives it, even where QEMU never started; undefining removes the file, and
        // takes a definition. Where this fails, libvirt still ends the guest with the connection.
        if let Ok(domain) = self.hypervisor.connection().define_domain_xml(self.xml) {
            let _ = domain.destroy();
            let _ = domain.undefine_flags(sys::VIR_DOMAIN_UNDEFINE_NVRAM);
        }
    }
}

fn machine_type(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "q35",
        Arch::Aarch64 => "virt",
    }
}

/// Returns whether a document of domain capabilities lists `efi` among the firmwares that libvirt chooses from.
fn offers_uefi(capabilities: &str) -> bool {
    let mut reader = Reader::from_str(capabilities);
    let mut in_firmware = false;
    loop {
        match reader.read_event() {
            Ok(Event::Start(element)) if element.name().as_ref() == b"enum" => {
                let name = element.try_get_attribute("name").ok().flatten();
                in_firmware = name.is_some_and(|name| name.value.as_ref() == b"firmware");
            }
            Ok(Event::End(element)) if element.name().as_ref() == b"enum" => in_firmware = false,
            Ok(Event::Text(text)) if in_firmware && text.as_ref() == b"efi" => return true,
            Ok(Event::Eof) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}

/// Returns the probe's domain: as machines have it in what depends on the accelerator, and else as small as can be.
pub(super) fn probe_xml(arch: Arch, accelerator: Accelerator, pid: u32, id: MachineId) -> String {
    let (kind, cpu) = match accelerator {
        Accelerator::Kvm => ("kvm", "host-passthrough"),
        Accelerator::Tcg => ("qemu", "maximum"),
    };
    let machine = machine_type(arch);
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
