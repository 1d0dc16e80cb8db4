//! `network-config`: how a machine reaches the network, from its next start on.

use serde::Serialize;

use crate::config;
use crate::disks::layer_of;
use crate::error::Result;
use crate::host::{Setup, Watch, check_bridge};
use crate::model::{MachineName, Network};
use crate::work::{Work, steps};

/// A machine's network before and after.
#[derive(Debug, Clone, Serialize)]
pub struct NetworkChange {
    /// The machine.
    pub machine: MachineName,
    /// What its files said.
    pub before: Network,
    /// What they say now.
    pub network: Network,
    /// Whether the guest runs, and so has the network that it was started with.
    pub running: bool,
}

/// Writes a machine's network into its files, and defines the domain of one that is off with it.
///
/// # Errors
/// There is no such machine or no such bridge, or libvirt refuses.
pub fn network_config(
    setup: &Setup,
    name: &MachineName,
    network: &Network,
    watch: &dyn Watch,
) -> Result<NetworkChange> {
    let work = Work::begin(setup, name, "network-config", watch)?;
    let before = config::load(&setup.workspace, name)?.network;
    let domain = work.host.find(name)?.map(|_| work.domain()).transpose()?;
    let running =
        domain.as_ref().map_or(Ok(false), |domain| domain.state().map(|state| state.is_active()))?;
    check_bridge(&work.host, network)?;
    let machine = config::change(&setup.workspace, name, |files| files.network = Some(network.clone()))?;
    // A guest that runs keeps the definition that its forwarded port is known by; `start` defines it anew.
    if let Some(domain) = domain.filter(|_| !running) {
        let layer = layer_of(&domain)?;
        steps::define(setup, &work.host, &machine, domain.metadata(), layer, watch)?;
    }
    match before == *network {
        true => watch.note(&format!("the network of {name} is {network} already")),
        false => watch.done(&format!("The network of {name} is {network}, and was {before}")),
    }
    Ok(NetworkChange { machine: name.clone(), before, network: network.clone(), running })
}
