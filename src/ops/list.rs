//! `list` and `list-machines`.

use std::net::SocketAddr;

use serde::Serialize;

use crate::config;
use crate::error::Result;
use crate::hypervisor::Hypervisor;
use crate::model::MachineName;
use crate::model::domain::DomainState;

use super::Setup;
use super::ownership;
use super::reach::endpoint;

/// A machine in the list.
#[derive(Debug, Clone, Serialize)]
pub struct ListedMachine {
    /// Its name.
    pub name: String,
    /// Its domain's state; `None` where it is only declared.
    pub state: Option<DomainState>,
    /// Where its ssh is reached.
    pub address: Option<SocketAddr>,
    /// Its profile, if known.
    pub profile: Option<String>,
    /// The generation its domain was built from.
    pub generation: Option<u32>,
}

/// Returns every machine that has a domain of nixvm's or is declared in this workspace, by name.
///
/// # Errors
/// libvirt does not answer, or the workspace cannot be read.
pub fn list(setup: &Setup) -> Result<Vec<ListedMachine>> {
    let host = setup.hypervisor()?;
    let mut machines = Vec::new();
    for domain in host.domains()? {
        let Some(metadata) = &domain.metadata else { continue };
        if metadata.workspace != setup.workspace.as_str() && ownership::is_ours(setup, metadata, domain.id) {
            ownership::notice(setup, &host, &metadata.machine);
        }
        let address = if domain.state.is_active() { address(setup, &host, &metadata.machine) } else { None };
        machines.push(ListedMachine {
            name: domain.name.clone(),
            state: Some(domain.state),
            address,
            profile: Some(metadata.current().profile.to_string()),
            generation: Some(metadata.current().number),
        });
    }
    for name in declared(setup)? {
        if !machines.iter().any(|m| m.name == name.as_str()) {
            let profile = config::load(&setup.workspace, &name).ok().map(|m| m.profile.to_string());
            machines.push(ListedMachine {
                name: name.to_string(),
                state: None,
                address: None,
                profile,
                generation: None,
            });
        }
    }
    machines.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(machines)
}

/// An address is a help in a list, not its point: a machine whose address is not to be had is listed without.
fn address(setup: &Setup, host: &Hypervisor, name: &MachineName) -> Option<SocketAddr> {
    let mac = config::load(&setup.workspace, name).ok()?.mac;
    endpoint(&host.own(name).ok()?, mac)
}

/// Returns the machines declared in this workspace, by name.
///
/// # Errors
/// `machines/` cannot be read.
pub fn declared(setup: &Setup) -> Result<Vec<MachineName>> {
    config::list(&setup.workspace)
}
