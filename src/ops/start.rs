//! `start`: fresh secrets onto the identity volume, then power.

use serde::Serialize;

use crate::config;
use crate::error::Result;
use crate::hypervisor::{Confinement, Owned};
use crate::interrupt;
use crate::model::domain::DomainState;
use crate::model::{Machine, MachineName};
use crate::storage::Pool;

use super::work::Work;
use super::{Setup, Watch, delete_snapshot, deploy, layers, memory, nvram, saved, whole};

/// A machine after `start`.
#[derive(Debug, Clone, Serialize)]
pub struct Started {
    /// The machine.
    pub machine: MachineName,
    /// Whether it ran before.
    pub was_running: bool,
}

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
        memory::compare_free(&work.host, name, machine.memory, watch)?;
        deploy::ensure_network(&work.host, &machine.network)?;
        saved::go_on(&domain, name, watch)?;
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
    let merged = work.pool().and_then(|pool| delete_snapshot::merge_links(work, &pool, domain));
    interrupt::check()?;
    if let Err(error) = merged {
        work.watch.note(&format!("layers that no snapshot needs stay ({error:#})"));
    }
    Ok(())
}

/// Starts a machine that is off, as its files and its domain's metadata are now.
///
/// # Errors
/// Its files are not valid, its data disk is not whole, or libvirt cannot start it.
pub fn power_on(work: &Work, domain: &Owned) -> Result<()> {
    let (setup, host) = (work.setup, &work.host);
    let machine = config::load(&setup.workspace, &work.name)?;
    work.watch.step(&format!("Starting {}", work.name));
    let pool = work.pool()?;
    // QEMU would say no more than that it cannot open a file.
    let chain = layers::check_chain(&pool, domain)?;
    whole::make_whole(work, &pool, domain, &chain)?;
    nvram::put_in_force(&pool, domain)?;
    fit_data(work, &pool, domain, &machine)?;
    // A new root password or host key is in force from here on, without a build.
    deploy::put_identity(work, &pool, &domain.metadata().stem, &machine)?;
    memory::compare_free(host, &work.name, machine.memory, work.watch)?;
    deploy::ensure_network(host, &machine.network)?;
    // So is what was changed of memory, CPUs and network.
    deploy::define(setup, host, &machine, domain.metadata(), deploy::layer_of(domain)?, work.watch)?;
    domain.start()?;
    work.watch.done(&format!("Started {}", work.name));
    Ok(())
}

/// Starts a machine again that ran before a work which failed or was interrupted, and that is off now; returns what came of
/// the work. Its definition is the old one or the new one, and both are whole.
pub fn on_again<T>(work: &Work, ran: bool, done: Result<T>) -> Result<T> {
    let is_off = |domain: &Owned| domain.state().is_ok_and(|state| !state.is_active());
    if ran
        && done.is_err()
        && let Some(domain) = work.domain().ok().filter(is_off)
    {
        // Why the work failed says more than that the machine does not start either.
        let _ = interrupt::deferred(|| power_on(work, &domain));
    }
    done
}

/// Makes the data disk as large as the machine's files say. The guest's file system follows at boot.
fn fit_data(work: &Work, pool: &Pool, domain: &Owned, machine: &Machine) -> Result<()> {
    let (has, wanted) = (deploy::data_capacity(pool, domain)?, machine.var_size);
    if wanted > has && !deploy::grow_data_now(pool, domain, wanted)? {
        work.watch.note(&format!(
            "libvirt copies a volume into the pool: the data disk of {} grows from {} to {} at its next start",
            work.name,
            has.exact(),
            wanted.exact()
        ));
    } else if wanted > has {
        work.watch.done(&format!(
            "Grew the data disk of {} from {} to {}",
            work.name,
            has.exact(),
            wanted.exact()
        ));
    } else if wanted < has {
        work.watch.note(&format!(
            "machines/{}/var_size says {}, and the data disk has {}: disks only grow",
            work.name,
            wanted.exact(),
            has.exact()
        ));
    }
    Ok(())
}
