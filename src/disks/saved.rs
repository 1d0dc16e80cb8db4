//! Machines whose memory libvirt keeps on disk: somebody saved them, or their host did when it was shut down
//! (`ON_SHUTDOWN=suspend` of libvirt-guests, which NixOS sets).
//!
//! That memory knows the disks as they were. Going on with it on others, or on the same written to meanwhile, destroys the
//! file system; so nothing of such a machine is changed before the memory is used up or thrown away.

use crate::error::{Failure, Result};
use crate::host::{Setup, Watch};
use crate::hypervisor::Owned;
use crate::model::MachineName;
use crate::model::domain::DomainState;

/// The commands that a saved machine takes: it goes on, or is deleted; and those that touch nothing it has in use.
const HARMLESS: [&str; 5] = ["start", "destroy", "purge", "clean", "generations"];

/// Sees that a command does not change a machine whose memory is saved: throws the memory away where that was asked for.
///
/// # Errors
/// It is saved, and nobody said what is to become of its memory; libvirt does not answer.
pub fn settle(
    setup: &Setup,
    domain: &Owned,
    name: &MachineName,
    verb: &str,
    watch: &dyn Watch,
) -> Result<()> {
    if domain.state()? != DomainState::Saved {
        return Ok(());
    }
    if setup.discard_saved {
        domain.discard_saved_memory()?;
        watch.note(&format!("the saved memory of {name} is thrown away: it starts as after a power cut"));
        return Ok(());
    }
    if HARMLESS.contains(&verb) {
        return Ok(());
    }
    Err(Failure::user(format!("{name} is saved: its memory is on disk, and fits only what it has now"))
        .hint(format!(
            "let it go on with `nixvm start {name}` and run the command again; or throw its memory away with `--discard-saved`: it then starts as after a power cut"
        ))
        .into())
}

/// Lets a saved machine go on.
///
/// # Errors
/// QEMU does not take the memory.
pub fn go_on(domain: &Owned, name: &MachineName, watch: &dyn Watch) -> Result<()> {
    watch.step(&format!("Starting {name} from its saved memory"));
    domain.start().map_err(|error| {
        Failure::user(format!("{name} cannot go on from its saved memory"))
            .hint(format!(
                "`nixvm start {name} --discard-saved` throws the memory away: it then starts as after a power cut"
            ))
            .because(error)
    })?;
    watch.done(&format!("{name} was saved, and goes on; what its files say now comes with its next start"));
    Ok(())
}
