//! Checks before a new machine's files are written, so that a host that cannot build or run it costs nothing.

use crate::error::{Failure, Result};
use crate::host::{Setup, check_bridge, check_folder};
use crate::model::{MachineName, Network};
use crate::nix;

/// Checks that no domain has the name, Nix is installed, and the pool and the network can be used.
pub fn preflight(setup: &Setup, name: &MachineName, network: Option<&Network>) -> Result<()> {
    check_arch(setup)?;
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

/// Checks that this computer builds for the architecture that the file `hosts` gives the host.
fn check_arch(setup: &Setup) -> Result<()> {
    let Some(host) = &setup.host else { return Ok(()) };
    match host.arch {
        Some(arch) if arch.as_str() != std::env::consts::ARCH => Err(Failure::user(format!(
            "the host {host} is {}, and Nix builds for the computer that runs nixvm, which is {}",
            arch.as_str(),
            std::env::consts::ARCH
        ))
        .hint(format!("run nixvm on a computer that is {}", arch.as_str()))
        .into()),
        _ => Ok(()),
    }
}
