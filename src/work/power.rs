//! Power: a machine is taken down, started, and started again when the work in between failed.

use serde::Serialize;

use crate::config;
use crate::disks::{data_capacity, grow_data_now, layer_of, layers, nvram};
use crate::error::Result;
use crate::host::{ensure_network, memory};
use crate::hypervisor::Owned;
use crate::interrupt;
use crate::model::{Machine, MachineName};
use crate::storage::Pool;
use crate::work::{Work, steps, whole};

/// A machine after `start`.
#[derive(Debug, Clone, Serialize)]
pub struct Started {
    /// The machine.
    pub machine: MachineName,
    /// Whether it ran before.
    pub was_running: bool,
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
    steps::put_identity(work, &pool, &domain.metadata().stem, &machine)?;
    memory::warn_free(host, &work.name, machine.memory, work.watch)?;
    ensure_network(host, &machine.network)?;
    // So is what was changed of memory, CPUs and network.
    steps::define(setup, host, &machine, domain.metadata(), layer_of(domain)?, work.watch)?;
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
    let (has, wanted) = (data_capacity(pool, domain)?, machine.var_size);
    if wanted > has && !grow_data_now(pool, domain, wanted)? {
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
