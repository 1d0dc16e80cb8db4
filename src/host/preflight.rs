//! What can be checked of a new machine before anything is written.

use crate::error::{Failure, Result};
use crate::host::{Setup, check_bridge, check_folder};
use crate::model::{MachineName, Network};
use crate::nix;

/// Checks what can be checked before anything is written: that no domain has the name, Nix is there, and so is the network.
///
/// # Errors
/// The machine exists, its domain is not nixvm's, or this host cannot build or run it.
pub fn preflight(setup: &Setup, name: &MachineName, network: Option<&Network>) -> Result<()> {
    let host = setup.hypervisor()?;
    if host.find(name)?.is_some() {
        host.own(name)?;
        return Err(Failure::user(format!("the machine `{name}` exists; nothing was changed"))
            .hint(format!(
                "`nixvm start {name}` starts it; `nixvm destroy {name}` deletes its domain and disks"
            ))
            .into());
    }
    if host.is_session()
        && host.is_local()
        && let Some(failure) = setup.session.socket_fault(name.as_str(), host.version()?)
    {
        return Err(failure.into());
    }
    nix::require()?;
    check_folder(setup, &host)?;
    network.map_or(Ok(()), |network| check_bridge(&host, network))
}
