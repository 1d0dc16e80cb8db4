//! `list` and `list-machines`.

use std::net::SocketAddr;

use serde::Serialize;

use crate::config;
use crate::error::Result;
use crate::hypervisor::{Hypervisor, Seen};
use crate::model::domain::DomainState;
use crate::model::{MacAddress, MachineName};

use super::Setup;
use super::address::places;
use super::ownership;

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
    /// The workspace whose machine it is, if that is not this one.
    pub other_workspace: Option<String>,
}

/// Returns every machine that has a domain of nixvm's or is declared in this workspace, by name.
///
/// # Errors
/// libvirt does not answer, or the workspace cannot be read.
pub fn list(setup: &Setup) -> Result<Vec<ListedMachine>> {
    let host = setup.hypervisor()?;
    let (mut machines, mut up) = (Vec::new(), Vec::new());
    for domain in host.domains()? {
        let Some(metadata) = &domain.metadata else { continue };
        let other_workspace = ownership::of_another(setup, metadata, domain.id);
        if other_workspace.is_none() && metadata.workspace != setup.workspace.as_str() {
            ownership::notice(setup, &host, &metadata.machine);
        }
        // Another workspace's files say which of a domain's addresses is the guest's own.
        if domain.state.can_answer()
            && other_workspace.is_none()
            && let Some(guest) = guest(setup, &host, &metadata.machine)
        {
            up.push((machines.len(), guest));
        }
        machines.push(ListedMachine {
            name: domain.name.clone(),
            state: Some(domain.state),
            address: None,
            profile: Some(metadata.current().profile.to_string()),
            generation: Some(metadata.current().number),
            other_workspace,
        });
    }
    let (indices, guests): (Vec<usize>, Vec<_>) = up.into_iter().unzip();
    for (index, address) in indices.into_iter().zip(places(setup, guests)) {
        machines[index].address = address;
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
                other_workspace: None,
            });
        }
    }
    machines.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(machines)
}

/// An address is a help in a list, not its point: a machine that cannot be asked for it is listed without.
fn guest(setup: &Setup, host: &Hypervisor, name: &MachineName) -> Option<(Seen, MacAddress)> {
    Some((host.see(name).ok()?, config::load(&setup.workspace, name).ok()?.mac))
}

/// Returns the machines declared in this workspace, by name.
///
/// # Errors
/// `machines/` cannot be read.
pub fn declared(setup: &Setup) -> Result<Vec<MachineName>> {
    config::list(&setup.workspace)
}
