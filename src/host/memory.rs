//! Warns where a machine may take more memory than its host has.

use crate::error::Result;
use crate::host::Watch;
use crate::hypervisor::Hypervisor;
use crate::model::{MachineName, Size};

/// Warns if a machine is to have more memory than its host has in all.
///
/// It is allowed: a guest takes only what it uses, and a host may have swap. When both run out, the host kills some guest.
pub fn warn_total(host: &Hypervisor, name: &MachineName, memory: Size, watch: &dyn Watch) -> Result<()> {
    let total = host.memory()?;
    if memory > total {
        watch.note(&format!(
            "{name} is to have {} of memory, and its host has {} in all: when the guest uses more than that, the host kills it",
            memory.exact(),
            shown(total),
        ));
    }
    Ok(())
}

/// Warns before a start if a machine may take more memory than its host has free.
pub fn warn_free(host: &Hypervisor, name: &MachineName, memory: Size, watch: &dyn Watch) -> Result<()> {
    let total = host.memory()?;
    if memory > total {
        return warn_total(host, name, memory, watch);
    }
    if let Some(free) = host.available_memory()?.filter(|free| memory > *free) {
        watch.note(&format!(
            "{name} may take {} of memory, but only {} of its host's {} are free now",
            memory.exact(),
            shown(free),
            shown(total),
        ));
    }
    Ok(())
}

/// Returns a size in MiB: what a host has is no round number.
fn shown(size: Size) -> String {
    format!("{}M", size.mib())
}
