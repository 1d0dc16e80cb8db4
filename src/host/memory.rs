//! A machine's memory beside its host's.

use crate::error::Result;
use crate::host::Watch;
use crate::hypervisor::Hypervisor;
use crate::model::{MachineName, Size};

/// Says where a machine is to have more memory than its host has.
///
/// It is allowed: a guest takes only what it uses, and a host may have swap. One that uses it all ends the guest, or another.
///
/// # Errors
/// libvirt does not answer.
pub fn compare(host: &Hypervisor, name: &MachineName, memory: Size, watch: &dyn Watch) -> Result<()> {
    let total = host.memory()?;
    if memory > total {
        watch.note(&format!(
            "{name} is to have {} of memory, and its host has {} in all: when the guest uses more than that, the host ends it",
            memory.exact(),
            shown(total),
        ));
    }
    Ok(())
}

/// Says before a start where the host has less memory left than the machine may take.
///
/// # Errors
/// libvirt does not answer.
pub fn compare_free(host: &Hypervisor, name: &MachineName, memory: Size, watch: &dyn Watch) -> Result<()> {
    let total = host.memory()?;
    match host.available_memory()? {
        _ if memory > total => compare(host, name, memory, watch)?,
        Some(free) if memory > free => watch.note(&format!(
            "{name} may take {} of memory, and of its host's {} only {} are free now",
            memory.exact(),
            shown(total),
            shown(free),
        )),
        _ => {}
    }
    Ok(())
}

/// Returns a size in MiB, for what a host has is no round number.
fn shown(size: Size) -> String {
    format!("{}M", size.mib())
}
