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

/// Starts a machine; one that is paused or saved goes on, and one that runs is left alone.
///
/// # Errors
/// There is no such machine, its files are not valid, or libvirt cannot start it.
pub fn start(setup: &Setup, name: &MachineName, watch: &dyn Watch) -> Result<Started> {
    let work = Work::begin(setup, name, "start", watch)?;
    let mut domain = work.domain()?;
    let state = domain.state()?;
    if state.is_active() {
        // By a person, or by QEMU when the pool had no space for what the guest wrote.
        if state == DomainState::Paused {
            domain.resume()?;
            watch.done(&format!("{name} was paused, and goes on"));
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

/// Merges the layers that stayed because AppArmor lets no machine that runs merge them. Where that fails the machine starts
/// all the same: its layers are whole.
fn merge_links(work: &Work, domain: &mut Owned) -> Result<()> {
    // While libvirt copies a volume, nobody can tell what lies on what: a later start merges them.
    if work.host.confinement()? != Confinement::AppArmor || !work.pool()?.refresh_now()? {
        return Ok(());
    }
    let merged = work.pool().and_then(|pool| merges::merge_links(work, &pool, domain));
    interrupt::check()?;
    if let Err(error) = merged {
        work.watch.note(&format!("layers that no snapshot needs stay ({error:#})"));
    }
    Ok(())
}
