//! `create`: from a name to a machine that can be started.

use serde::Serialize;

use crate::config::{self, NewMachine};
use crate::error::{Failure, Result};
use crate::model::{Machine, MachineName, Network, volume};
use crate::nix;

use super::build::build_machine;
use super::deploy::{check_bridge, deploy};
use super::{BuiltMachine, Setup, Watch};

/// A machine that was created.
#[derive(Debug, Clone, Serialize)]
pub struct Created {
    /// What was built for it.
    #[serde(flatten)]
    pub built: BuiltMachine,
    /// The volume that holds its data.
    pub data_volume: String,
}

/// Writes `machines/NAME`, filling in only what is missing, and returns the machine.
///
/// # Errors
/// A value or an existing file is not valid; nothing is written then.
pub fn declare(setup: &Setup, new: &NewMachine, watch: &dyn Watch) -> Result<Machine> {
    let known = config::exists(&setup.workspace, &new.name);
    let machine = config::create(&setup.workspace, new)?;
    let folder = setup.workspace.machine_dir(&machine.name);
    match known {
        true => watch.note(&format!("`{}` exists; what it says was kept", folder.display())),
        false => watch.done(&format!("Wrote {}", folder.display())),
    }
    Ok(machine)
}

/// Builds a declared machine, puts its disks into the pool and defines its domain.
///
/// # Errors
/// A domain of that name exists, or a step fails; running `create` again completes the work, and data that is in the pool already is kept.
pub fn create(setup: &Setup, machine: &Machine, watch: &dyn Watch) -> Result<Created> {
    preflight(setup, &machine.name, Some(&machine.network))?;
    let host = setup.hypervisor()?;
    host.check_free(&machine.name, machine.machine_id)?;
    let built = build_machine(setup, machine, None, watch)?;
    deploy(setup, &host, machine, &built, watch)?;
    Ok(Created { built, data_volume: volume::data(&machine.name) })
}

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
    nix::require()?;
    network.map_or(Ok(()), |network| check_bridge(&host, network))
}
