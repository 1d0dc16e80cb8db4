//! `network-config`: how a machine reaches the network, from its next start on.

use serde::Serialize;

use crate::config;
use crate::disks::layer_of;
use crate::error::Result;
use crate::host::{Setup, Watch, check_bridge, ensure_network};
use crate::model::{MachineName, Network};
use crate::work::{Work, steps};

#[derive(Debug, Clone, Serialize)]
pub struct NetworkChange {
    pub machine: MachineName,
    pub before: Network,
    pub network: Network,
    /// Whether the guest runs, and so keeps the network that it was started with.
    pub running: bool,
}

/// Writes a machine's network into its files and its definition; a running guest keeps its own.
pub fn network_config(
    setup: &Setup,
    name: &MachineName,
    network: &Network,
    watch: &dyn Watch,
) -> Result<NetworkChange> {
    let work = Work::begin(setup, name, "network-config", watch)?;
    let before = config::load(&setup.workspace, name)?.network;
    let found = work.host.find(name)?;
    let running = found.as_ref().is_some_and(|domain| domain.state.is_active());
    check_bridge(&work.host, network)?;
    let machine = config::change(&setup.workspace, name, |files| files.network = Some(network.clone()))?;
    if found.is_some() {
        // The host itself may be what starts the machine next.
        ensure_network(&work.host, network)?;
        let domain = work.domain()?;
        steps::define(setup, &work.host, &machine, domain.metadata(), layer_of(&domain)?, watch)?;
    }
    if before == *network {
        watch.note(&format!("the network of {name} is {network} already"));
    } else {
        watch.done(&format!("Changed the network of {name} from {before} to {network}"));
    }
    Ok(NetworkChange { machine: name.clone(), before, network: network.clone(), running })
}
