//! `start`: fresh secrets onto the identity volume, then power.

use serde::Serialize;

use crate::config;
use crate::error::Result;
use crate::model::MachineName;

use super::deploy;
use super::{Setup, Watch};

/// A machine after `start`.
#[derive(Debug, Clone, Serialize)]
pub struct Started {
    /// The machine.
    pub machine: MachineName,
    /// Whether it ran before.
    pub was_running: bool,
}

/// Starts a machine; one that runs is left alone.
///
/// # Errors
/// There is no such machine, its files are not valid, or libvirt cannot start it.
pub fn start(setup: &Setup, name: &MachineName, watch: &dyn Watch) -> Result<Started> {
    let host = setup.hypervisor()?;
    let domain = host.own(name)?;
    if domain.state()?.is_active() {
        watch.note(&format!("{name} runs already"));
        return Ok(Started { machine: name.clone(), was_running: true });
    }
    let machine = config::load(&setup.workspace, name)?;
    watch.step(&format!("Starting {name}"));
    // A new root password or host key is in force from here on, without a build.
    deploy::put_identity(&deploy::open_pool(setup, &host)?, &machine)?;
    deploy::ensure_network(&host, &machine.network)?;
    // So is what was changed of memory, CPUs and network.
    deploy::redefine(setup, &host, &machine, domain.metadata(), watch)?;
    domain.start()?;
    watch.done(&format!("Started {name}"));
    Ok(Started { machine: name.clone(), was_running: false })
}
