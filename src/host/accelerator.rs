//! KVM or emulation: tried out once for each boot of a host and remembered, because a trial takes seconds where KVM hangs.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::file;
use crate::host::{Setup, Watch};
use crate::hypervisor::{Hypervisor, Probe};
use crate::model::domain::Accelerator;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Held during a trial.
static TRIAL: Mutex<()> = Mutex::new(());

/// Returns the accelerator that guests of this host run with: the remembered one, or else that of a trial.
pub fn accelerator(setup: &Setup, host: &Hypervisor, watch: &dyn Watch) -> Result<Accelerator> {
    if let Some(known) = remembered(setup, host)? {
        return Ok(known);
    }
    // Of several machines that are started at the same time one tries, and the others take its result: two trials at once
    // would have the same name, and slow each other down.
    let _trial = TRIAL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = remembered(setup, host)? {
        return Ok(known);
    }
    watch.step("Trying out KVM");
    let Probe { accelerator, reason, .. } = probe(setup, host)?;
    match accelerator {
        Accelerator::Kvm => watch.done(&format!("KVM works: {reason}")),
        Accelerator::Tcg => watch.note(&format!(
            "guests run without KVM, several times slower and with one processor each: {reason}"
        )),
    }
    Ok(accelerator)
}

fn remembered(setup: &Setup, host: &Hypervisor) -> Result<Option<Accelerator>> {
    Ok(match fs::read_to_string(cache_file(setup, host)?).unwrap_or_default().as_str() {
        "kvm" => Some(Accelerator::Kvm),
        "tcg" => Some(Accelerator::Tcg),
        _ => None,
    })
}

/// Tries KVM out even if a result is remembered, and remembers the new one if it is certain.
pub fn probe(setup: &Setup, host: &Hypervisor) -> Result<Probe> {
    let probe = host.probe_accelerator(host.arch()?)?;
    let cache = cache_file(setup, host)?;
    // Without a home, for instance, nothing is remembered and the next call tries again: slower, but no failure.
    let _ = match probe.accelerator {
        _ if !probe.certain => fs::remove_file(&cache).map_err(Into::into),
        Accelerator::Kvm => file::write(&cache, "kvm"),
        Accelerator::Tcg => file::write(&cache, "tcg"),
    };
    Ok(probe)
}

/// Returns the file that remembers the result, named after what it depends on: which libvirt, and which boot of its host.
///
/// libvirt does not tell when another host was booted, so a result for another host is remembered for the day only.
fn cache_file(setup: &Setup, host: &Hypervisor) -> Result<PathBuf> {
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
