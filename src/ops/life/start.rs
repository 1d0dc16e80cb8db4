//! `start`: fresh secrets onto the identity volume, then power.

use crate::config;
use crate::disks::{layers, saved};
use crate::error::Result;
use crate::host::{Setup, Watch, ensure_network, memory};
use crate::hypervisor::{Confinement, Owned};
use crate::interrupt;
use crate::model::MachineName;
use crate::model::domain::DomainState;
use crate::work::power::{Started, power_on};
use crate::work::{Work, merges};

/// Starts a machine. One that is paused or saved is resumed; one that runs is left alone.
pub fn start(setup: &Setup, name: &MachineName, watch: &dyn Watch) -> Result<Started> {
    let work = Work::begin(setup, name, "start", watch)?;
    let mut domain = work.domain()?;
    let state = domain.state()?;
    if state.is_active() {
        // A person paused it, or QEMU did when the pool had no space for the guest's writes.
        if state == DomainState::Paused {
            domain.resume()?;
            watch.done(&format!("Resumed {name}, which was paused"));
        } else {
            watch.note(&format!("{name} runs already"));
        }
        return Ok(Started { machine: name.clone(), was_running: true });
    }
    if state == DomainState::Saved {
        layers::check_chain(&work.pool()?, &domain)?;
        let machine = config::load(&setup.workspace, name)?;
        memory::warn_free(&work.host, name, machine.memory, watch)?;
        ensure_network(&work.host, &machine.network)?;
        saved::resume(&domain, name, watch)?;
        return Ok(Started { machine: name.clone(), was_running: false });
    }
    merge_links(&work, &mut domain)?;
    power_on(&work, &domain)?;
    Ok(Started { machine: name.clone(), was_running: false })
}

/// Merges layers that no snapshot needs and that AppArmor kept from being merged while the machine ran. The machine starts
/// even where this fails: its layers are whole.
fn merge_links(work: &Work, domain: &mut Owned) -> Result<()> {
    // While libvirt copies a volume, the chain cannot be read: a later start merges them.
    if work.host.confinement()? != Confinement::AppArmor || !work.pool()?.refresh_now()? {
        return Ok(());
    }
    let merged = work.pool().and_then(|pool| merges::merge_links(work, &pool, domain));
    interrupt::check()?;
    if let Err(error) = merged {
        work.watch.note(&format!(
            "layers that no snapshot needs were not merged; the next start tries again ({error:#})"
        ));
    }
    Ok(())
}
