//! A machine is started, and started again where the work that took it down failed.

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

/// The result of `start`.
#[derive(Debug, Clone, Serialize)]
pub struct Started {
    pub machine: MachineName,
    pub was_running: bool,
}

/// Starts a machine that is off, as its files and its domain's metadata are now.
pub fn power_on(work: &Work, domain: &Owned) -> Result<()> {
    let (setup, host) = (work.setup, &work.host);
    let machine = config::load(&setup.workspace, &work.name)?;
    work.watch.step(&format!("Starting {}", work.name));
    let pool = work.pool()?;
    // QEMU would only say that it cannot open a file.
    let chain = layers::check_chain(&pool, domain)?;
    whole::make_whole(work, &pool, domain, &chain)?;
    nvram::put_in_force(&pool, domain)?;
    fit_data(work, &pool, domain, &machine)?;
    // From here on a new root password or host key is in force, without a build.
    steps::put_identity(work, &pool, &domain.metadata().stem, &machine)?;
    memory::warn_free(host, &work.name, machine.memory, work.watch)?;
    ensure_network(host, &machine.network)?;
    // So are changes of memory, CPUs and network.
    steps::define(setup, host, &machine, domain.metadata(), layer_of(domain)?, work.watch)?;
    domain.start()?;
    work.watch.done(&format!("Started {}", work.name));
    Ok(())
}

/// Returns the result of a work, and starts the machine again if it `ran` before, the work failed, and it is off now.
///
/// Its definition is the old one or the new one, and both are whole.
pub fn on_again<T>(work: &Work, ran: bool, done: Result<T>) -> Result<T> {
    let is_off = |domain: &Owned| domain.state().is_ok_and(|state| !state.is_active());
    if ran
        && done.is_err()
        && let Some(domain) = work.domain().ok().filter(is_off)
    {
        // The first error says more than a second one.
        let _ = interrupt::deferred(|| power_on(work, &domain));
    }
    done
}

/// Makes the data disk as large as the machine's files say. The guest's file system follows at boot.
fn fit_data(work: &Work, pool: &Pool, domain: &Owned, machine: &Machine) -> Result<()> {
    let (has, wanted) = (data_capacity(pool, domain)?, machine.var_size);
    let (name, from, to) = (&work.name, has.exact(), wanted.exact());
    if wanted < has {
        work.watch.note(&format!(
            "machines/{name}/var_size says {to}, but the data disk has {from}; a disk never shrinks"
        ));
    } else if wanted > has && grow_data_now(pool, domain, wanted)? {
        work.watch.done(&format!("Grew the data disk of {name} from {from} to {to}"));
    } else if wanted > has {
        work.watch.note(&format!(
            "libvirt is copying a volume into the pool; the data disk of {name} grows from {from} to {to} at its next start"
        ));
    }
    Ok(())
}
