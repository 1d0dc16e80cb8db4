//! Machines whose memory libvirt keeps on disk: somebody saved them, or their host did when it was shut down
//! (`ON_SHUTDOWN=suspend` of libvirt-guests, which NixOS sets).
//!
//! That memory fits the disks as they were. Resuming it on other disks, or on the same ones after a write to them, destroys the
//! file system. So nixvm changes nothing of such a machine until the memory is used or discarded.

use crate::error::{Explain, Failure, Result};
use crate::host::{Setup, Watch};
use crate::hypervisor::Owned;
use crate::model::MachineName;
use crate::model::domain::DomainState;

/// The commands that a saved machine allows: those that resume or delete it, and those that touch nothing it uses.
const HARMLESS: [&str; 5] = ["start", "destroy", "purge", "clean", "generations"];

/// Checks that a command does not change a saved machine, and discards the saved memory if that was asked for.
pub fn check(setup: &Setup, domain: &Owned, name: &MachineName, verb: &str, watch: &dyn Watch) -> Result<()> {
    if domain.state()? != DomainState::Saved {
        return Ok(());
    }
    if setup.discard_saved {
        domain.discard_saved_memory()?;
        watch.note(&format!("the saved memory of {name} was discarded: it starts as after a power cut"));
        return Ok(());
    }
    if HARMLESS.contains(&verb) {
        return Ok(());
    }
    Err(Failure::user(format!("{name} is saved: its memory is on disk, and fits only its present state"))
        .hint(format!(
            "resume it with `nixvm start {name}` and run the command again; or discard its memory with `--discard-saved`, and it starts as after a power cut"
        ))
        .into())
}

pub fn resume(domain: &Owned, name: &MachineName, watch: &dyn Watch) -> Result<()> {
    watch.step(&format!("Starting {name} from its saved memory"));
    domain.start().explain(|| {
        Failure::user(format!("cannot resume {name} from its saved memory")).hint(format!(
            "`nixvm start {name} --discard-saved` discards the memory, and {name} starts as after a power cut"
        ))
    })?;
    watch.done(&format!("{name} was saved, and is resumed; changes in its files apply from its next start"));
    Ok(())
}
