//! AppArmor and SELinux: whether they confine guests, and what they denied to nixvm's machines.
//!
//! The kernel records denials as `key=value` pairs (its audit format): in auditd's log if that runs, else in its own.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use crate::exec::Command;
use crate::hypervisor::Hypervisor;

use super::check::Check;

const NAME: &str = "confinement";

#[derive(Debug, Clone, PartialEq, Eq)]
struct Denial {
    /// `None` under SELinux, which names no machine.
    machine: Option<String>,
    what: String,
}

/// Checks which of the two confines guests of this host, and what was denied to machines since it booted.
pub fn check(host: &Hypervisor) -> Check {
    let on = |file: &str, value: &str| fs::read_to_string(file).is_ok_and(|text| text.trim() == value);
    let apparmor = on("/sys/module/apparmor/parameters/enabled", "Y");
    let enforcing = on("/sys/fs/selinux/enforce", "1");
    let permissive = on("/sys/fs/selinux/enforce", "0");
    let state = match (apparmor, enforcing, permissive) {
        (true, ..) => "AppArmor is on",
        (_, true, _) => "SELinux is enforcing",
        (_, _, true) => "SELinux is on, and denies nothing (permissive)",
        _ => return Check::good(NAME, "neither AppArmor nor SELinux is on"),
    };
    let Some(log) = kernel_log() else {
        let finding = format!("{state}; only root can read what it denied: run `sudo nixvm doctor`");
        return Check::good(NAME, finding);
    };
    let machines = host.domains().unwrap_or_default().into_iter().filter(|domain| domain.metadata.is_some());
    let machines = machines.map(|domain| (domain.id.to_uuid(), domain.name)).collect();
    of(state, &denials(&log, &machines), apparmor)
}

fn of(state: &str, denials: &[Denial], apparmor: bool) -> Check {
    let Some(last) = denials.last() else {
        return Check::good(NAME, format!("{state}, and denied nothing to any machine"));
    };
    let machine = last.machine.as_deref().unwrap_or("a machine");
    let finding = format!(
        "{state}, and denied {} access(es) since this host booted, the last to {machine}: {}",
        denials.len(),
        last.what
    );
    let fix = match (apparmor, last.machine.as_deref()) {
        (true, Some(name)) => format!(
            "`nixvm start {name}` defines it again, so that libvirt allows its files to QEMU; to allow others see /etc/apparmor.d/abstractions/libvirt-qemu"
        ),
        (true, None) => "see /etc/apparmor.d/abstractions/libvirt-qemu".to_owned(),
        (false, _) => "`sudo restorecon -Rv /var/lib/libvirt` sets the labels of files in pools; `sudo ausearch -m avc -ts recent` shows more".to_owned(),
    };
    Check::warning(NAME, finding, fix)
}

/// Returns the denials of these machines (by UUID), and of guests under SELinux, oldest first.
fn denials(log: &str, machines: &HashMap<String, String>) -> Vec<Denial> {
    let denial = |line: &str| {
        let fields = fields(line);
        let get = |key: &str| fields.get(key).map(String::as_str);
        if get("apparmor") == Some("DENIED") {
            let machine = machines.get(get("profile")?.strip_prefix("libvirt-")?.get(..36)?)?;
            let object = get("name").or(get("capname")).or(get("peer")).unwrap_or_default();
            let what = format!("{} of {object}", get("operation").unwrap_or("use"));
            return Some(Denial { machine: Some(machine.clone()), what });
        }
        let (_, rest) = line.split_once("avc:")?;
        let asked = rest.split_once("denied")?.1.split_once('{')?.1.split_once('}')?.0.trim();
        // The types of libvirt's guests.
        let kind = get("scontext")?.split(':').nth(2)?;
        if !["svirt_t", "svirt_tcg_t"].contains(&kind) || get("permissive") == Some("1") {
            return None;
        }
        let object = get("path").or(get("name")).unwrap_or_default();
        Some(Denial { machine: None, what: format!("{asked} of {object}") })
    };
    log.lines().filter_map(denial).collect()
}

/// Returns the `key=value` pairs of a line. A value in quotes is text; text with special characters is in hexadecimal digits
/// without quotes.
fn fields(line: &str) -> HashMap<&str, String> {
    let mut fields = HashMap::new();
    let mut rest = line;
    while let Some(at) = rest.find('=') {
        let key = rest[..at].rsplit([' ', ':']).next().unwrap_or_default();
        let after = &rest[at + 1..];
        let quoted = after.strip_prefix('"');
        let (after, end) = quoted.map_or((after, ' '), |text| (text, '"'));
        let (value, next) = after.split_once(end).unwrap_or((after, ""));
        let may_be_hex = quoted.is_none() && ["name", "path", "comm", "profile"].contains(&key);
        let text = if may_be_hex { from_hex(value) } else { None };
        fields.insert(key, text.unwrap_or_else(|| value.to_owned()));
        rest = next;
    }
    fields
}

fn from_hex(text: &str) -> Option<String> {
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
    String::from_utf8(bytes?).ok()
}

/// Returns the kernel's log since it booted, and auditd's; `None` where this user may read neither.
fn kernel_log() -> Option<String> {
    let audit = fs::read("/var/log/audit/audit.log").ok();
    let kernel = kmsg().or_else(|| {
        // Members of the groups `adm` and `systemd-journal` may read the journal; others get an empty one.
        let journal = Command::new("journalctl").args(["--dmesg", "--boot", "--output=cat", "--quiet"]);
        journal.output().ok().filter(|said| !said.is_empty())
    });
    let logs: Vec<Vec<u8>> = kernel.into_iter().chain(audit).collect();
    (!logs.is_empty()).then(|| String::from_utf8_lossy(&logs.join(&b'\n')).into_owned())
}

/// Returns the kernel's buffer: each read gives one record, its message behind `;` (the kernel's dev-kmsg).
fn kmsg() -> Option<Vec<u8>> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut device = OpenOptions::new().read(true).custom_flags(nonblocking).open("/dev/kmsg").ok()?;
    let (mut all, mut record) = (Vec::new(), vec![0; 8192]);
    loop {
        match device.read(&mut record) {
            Ok(0) => return Some(all),
            Ok(length) => all.extend_from_slice(&record[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Some(all),
            // The kernel has overwritten the next record.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(_) => return (!all.is_empty()).then_some(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::look::doctor::Health;

    /// As the kernels of Debian 12 and Fedora write them.
    const LOG: &str = r#"6,1200,98,-;audit: type=1400 audit(1764180000.123:45): apparmor="DENIED" operation="open" class="file" profile="libvirt-0d3c1f0a-5b7e-4f0c-9a37-2f1e5d0c9b11" name="/var/lib/libvirt/images/nixvm/nixvm-base-1.qcow2" pid=812 comm="qemu-system-x86" requested_mask="r" denied_mask="r" fsuid=64055 ouid=64055
audit: type=1400 audit(1764180001.1:46): apparmor="DENIED" operation="open" profile="libvirt-0d3c1f0a-5b7e-4f0c-9a37-2f1e5d0c9b11" name=2F7372762F6120622F78 pid=812 comm="qemu-system-x86"
audit: type=1400 audit(1764180001.2:47): apparmor="DENIED" operation="open" profile="libvirt-ffffffff-5b7e-4f0c-9a37-2f1e5d0c9b11" name="/of/another"
audit: type=1400 audit(1764180001.3:48): apparmor="STATUS" operation="profile_load" profile="unconfined" name="libvirt-0d3c1f0a-5b7e-4f0c-9a37-2f1e5d0c9b11"
audit: type=1400 audit(1764180001.4:49): apparmor="DENIED" operation="open" profile="/usr/sbin/cupsd" name="/etc/x""#;

    fn machines() -> HashMap<String, String> {
        HashMap::from([("0d3c1f0a-5b7e-4f0c-9a37-2f1e5d0c9b11".to_owned(), "web".to_owned())])
    }

    #[test]
    fn what_apparmor_denied_to_a_machine_is_told_by_its_name() {
        let denials = denials(LOG, &machines());
        let what: Vec<&str> = denials.iter().map(|denial| denial.what.as_str()).collect();
        assert_eq!(what, ["open of /var/lib/libvirt/images/nixvm/nixvm-base-1.qcow2", "open of /srv/a b/x"]);
        let told = of("AppArmor is on", &denials, true);
        assert_eq!(told.health, Health::Warning);
        assert!(told.finding.ends_with("the last to web: open of /srv/a b/x"), "{told:?}");
        assert!(told.fix.unwrap().starts_with("`nixvm start web`"));
        assert_eq!(of("AppArmor is on", &[], true).health, Health::Good);
    }

    #[test]
    fn what_selinux_denied_to_a_guest_is_told() {
        let log = r#"type=AVC msg=audit(1764180000.123:45): avc:  denied  { read write } for  pid=812 comm="qemu-kvm" name="web.data-1.qcow2" dev="vda1" ino=77 scontext=system_u:system_r:svirt_t:s0:c1,c2 tcontext=unconfined_u:object_r:user_home_t:s0 tclass=file permissive=0
type=AVC msg=audit(1764180000.124:46): avc:  denied  { read } for  pid=9 comm="httpd" name="x" scontext=system_u:system_r:httpd_t:s0 tclass=file permissive=0
type=AVC msg=audit(1764180000.125:47): avc:  denied  { read } for  pid=9 comm="qemu-kvm" name="x" scontext=system_u:system_r:svirt_t:s0 tclass=file permissive=1"#;
        let denials = denials(log, &machines());
        assert_eq!(denials, [Denial { machine: None, what: "read write of web.data-1.qcow2".into() }]);
        assert!(of("SELinux is enforcing", &denials, false).fix.unwrap().contains("restorecon"));
    }
}
