//! `passwd`: root's password, as a hash among the machine's files.

use serde::Serialize;

use crate::config;
use crate::error::Result;
use crate::host::{Setup, Watch};
use crate::model::{MachineName, PasswordHash};
use crate::work::{Work, steps};

#[derive(Debug, Clone, Serialize)]
pub struct RootPassword {
    pub machine: MachineName,
    /// Whether root has no password and cannot log in with one.
    pub locked: bool,
}

/// Writes the hash of root's password into the machine's files; without a hash, root is locked.
pub fn passwd(
    setup: &Setup,
    name: &MachineName,
    hash: Option<PasswordHash>,
    watch: &dyn Watch,
) -> Result<RootPassword> {
    let work = Work::begin(setup, name, "passwd", watch)?;
    let locked = hash.is_none();
    let machine = config::change(&setup.workspace, name, |files| files.root_password = Some(hash))?;
    steps::refresh_identity(&work, &machine)?;
    watch.done(&if locked {
        format!("Locked root of {name}")
    } else {
        format!("Changed root's password of {name}; only its hash is stored")
    });
    let running = work.host.find(name)?.is_some_and(|domain| domain.state.is_active());
    watch.note(&if machine.self_contained {
        format!("{name} is self-contained: its image holds the old password until `nixvm upgrade {name}`")
    } else if running {
        format!("in force from the next start on; `nixvm reboot {name}` restarts it now")
    } else {
        "in force from the next start on".to_owned()
    });
    Ok(RootPassword { machine: name.clone(), locked })
}
