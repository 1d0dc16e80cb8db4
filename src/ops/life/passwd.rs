//! `passwd`: root's password, as a hash among the machine's files.

use serde::Serialize;

use crate::config;
use crate::error::Result;
use crate::host::{Setup, Watch};
use crate::model::{MachineName, PasswordHash};
use crate::work::Work;

/// Whether root of a machine has a password.
#[derive(Debug, Clone, Serialize)]
pub struct RootPassword {
    /// The machine.
    pub machine: MachineName,
    /// Whether there is none, and root cannot log in.
    pub locked: bool,
}

/// Writes the hash of root's password into the machine's files, or that there is none.
///
/// # Errors
/// There is no such machine, or its files are not valid or cannot be written.
pub fn passwd(
    setup: &Setup,
    name: &MachineName,
    hash: Option<PasswordHash>,
    watch: &dyn Watch,
) -> Result<RootPassword> {
    let work = Work::begin(setup, name, "passwd", watch)?;
    let locked = hash.is_none();
    let machine = config::change(&setup.workspace, name, |files| files.root_password = Some(hash))?;
    watch.done(&match locked {
        true => format!("Locked root of {name}"),
        false => format!("Wrote root's new password of {name}, as a hash"),
    });
    let running = match work.host.find(name)? {
        Some(_) => work.domain()?.state()?.is_active(),
        None => false,
    };
    match (machine.self_contained, running) {
        (true, _) => {
            watch.note("the machine is self-contained: its image has the old one until it is built again")
        }
        (false, true) => {
            watch.note(&format!("in force at the next start: `nixvm reboot {name}` brings it about now"));
        }
        (false, false) => watch.note("in force from the next start on"),
    }
    Ok(RootPassword { machine: name.clone(), locked })
}
