//! `start`: fresh secrets onto the identity volume, then power.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config;
use crate::disks::{layers, saved};
use crate::error::{Explain, Failure, Result};
use crate::guest::arrival::{self, Arrival, Goal};
use crate::host::{Call, Setup, Watch, ensure_network, memory};
use crate::hypervisor::{Confinement, Owned};
use crate::interrupt;
use crate::model::MachineName;
use crate::model::domain::DomainState;
use crate::work::power::{Started, power_on};
use crate::work::{Work, merges};

/// Returns machines in the order in which they are to start, those of a group at the same time: each behind those that its file
/// `after` names.
pub fn start_order(call: &Call, names: &BTreeSet<MachineName>) -> Result<Vec<Vec<MachineName>>> {
    config::start_order(&call.host().workspace, names)
}

/// Waits until the machines answer that a machine starts after, `limit` for each; those that have a health check, until they are
/// healthy.
///
/// One that is off is only noted: nobody starts it in passing. But if it is among `started`, which the same command starts, it
/// is an error.
pub fn wait_for_others(
    call: &Call,
    name: &MachineName,
    started: &BTreeSet<MachineName>,
    limit: Duration,
    watch: &dyn Watch,
) -> Result<()> {
    let workspace = &call.host().workspace;
    let others = config::after(workspace, name)?;
    let is_up = |setup: &Setup, name: &MachineName| -> Result<bool> {
        Ok(setup.hypervisor()?.find(name)?.is_some_and(|domain| domain.state.is_active()))
    };
    if others.is_empty() || is_up(&call.machine(name)?, name)? {
        return Ok(());
    }
    for other in &others {
        let setup = call.other(other)?;
        let not_started = || Failure::user(format!("{name} was not started: it starts after {other}"));
        if !is_up(&setup, other)? {
            if started.contains(other) {
                return Err(not_started().because(Failure::user(format!("{other} is off"))).into());
            }
            watch.note(&format!("{name} is to start after {other}, which is off; it starts all the same"));
            continue;
        }
        let has_check = config::health_check(workspace, other)?.is_some();
        let goal = if has_check { Goal::Healthy } else { Goal::Ssh };
        if let Arrival::Late(why) = arrival::wait(&setup, other, goal, limit, watch).explain(not_started)? {
            return Err(not_started()
                .because(Failure::user(format!("{other} did not {goal} within {} s: {why}", limit.as_secs())))
                .hint(format!("remove {other} from machines/{name}/after to start {name} without it"))
                .into());
        }
    }
    Ok(())
}

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
