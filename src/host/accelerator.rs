//! What runs guests on a host: found out once and remembered, because finding out takes seconds where KVM hangs.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::file;
use crate::host::{Setup, Watch};
use crate::hypervisor::{Hypervisor, Probe};
use crate::model::domain::Accelerator;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns what runs guests, from memory or from a probe.
///
/// # Errors
/// libvirt does not answer.
pub fn accelerator(setup: &Setup, host: &Hypervisor, watch: &dyn Watch) -> Result<Accelerator> {
    let memory = memory(setup, host)?;
    match fs::read_to_string(&memory).unwrap_or_default().as_str() {
        "kvm" => return Ok(Accelerator::Kvm),
        "tcg" => return Ok(Accelerator::Tcg),
        _ => {}
    }
    watch.step("Trying out KVM");
    let probe = probe(setup, host)?;
    match probe.accelerator {
        Accelerator::Kvm => watch.done(&format!("KVM works: {}", probe.reason)),
        Accelerator::Tcg => {
            watch.note(&format!(
                "guests run without KVM, several times slower and with one processor each: {}",
                probe.reason
            ));
        }
    }
    Ok(probe.accelerator)
}

/// Tries KVM out, whatever is remembered, and remembers what is certain of it.
///
/// # Errors
/// libvirt does not answer.
pub fn probe(setup: &Setup, host: &Hypervisor) -> Result<Probe> {
    let probe = host.probe_accelerator(host.arch()?)?;
    let memory = memory(setup, host)?;
    if !probe.certain {
        let _ = fs::remove_file(&memory);
        return Ok(probe);
    }
    // Where it cannot be written down, as without a home, the next call tries anew: slower, and no reason to fail.
    let _ = file::write(&memory, if probe.accelerator == Accelerator::Kvm { "kvm" } else { "tcg" });
    Ok(probe)
}

/// Returns the file that remembers; its name holds what the answer depends on: which libvirt, and which boot of its host.
///
/// libvirt does not tell when another host was booted, so what is known of one is forgotten with the day.
fn memory(setup: &Setup, host: &Hypervisor) -> Result<PathBuf> {
    let since = if host.is_local() {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (now.as_secs() / DAY.as_secs()).to_string()
    };
    // A URI with its options can be longer than a file's name.
    let libvirt = Sha256::digest(host.uri());
    Ok(setup.cache.join("accelerator").join(format!("{libvirt:.16x}-{since}")))
}
