//! Checks before a new machine's files are written, so that a host that cannot build or run it costs nothing.

use crate::error::{Failure, Result};
use crate::host::{Setup, check_bridge, check_folder};
use crate::model::{MachineName, Network};
use crate::nix;

/// Checks that no domain has the name, Nix is installed, and the pool and the network can be used.
pub fn preflight(setup: &Setup, name: &MachineName, network: Option<&Network>) -> Result<()> {
    let host = setup.hypervisor()?;
    if host.find(name)?.is_some() {
        // Another tool's domain is refused with a reason of its own.
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
