//! What a command looks at before it asks a question or works on the first of several machines.

use std::collections::BTreeSet;

use crate::config;
use crate::error::{Failure, Report, Result};
use crate::journal::{self, WorkState};
use crate::model::{MachineName, SnapshotName};

use super::delete_snapshot::no_snapshot;
use super::{Call, Setup};

/// Checks that all these machines are there, so that a slip in the last name is found before the first is worked on.
///
/// # Errors
/// One of them is not, or its domain is not nixvm's; libvirt does not answer.
pub fn require_all(call: &Call, names: &BTreeSet<MachineName>) -> Result<()> {
    let checked = names.iter().map(|name| (name, call.machine(name).and_then(|s| require(&s, name))));
    let missing: Vec<_> =
        checked.filter_map(|(name, found)| Some((name, Report::of(&found.err()?)))).collect();
    let Some((_, first)) = missing.first() else { return Ok(()) };
    let said: Vec<String> =
        missing.iter().map(|(name, report)| format!("{name}: {}", report.error)).collect();
    let hint = first.hints.first().map_or("`nixvm list` shows the machines there are", String::as_str);
    Err(Failure::user(format!(
        "{} of these {} machines cannot be worked on; nothing was changed",
        missing.len(),
        names.len()
    ))
    .because(anyhow::Error::msg(said.join("\n")))
    .hint(hint)
    .into())
}

fn require(setup: &Setup, name: &MachineName) -> Result<()> {
    if is_interrupted(setup, name)? {
        return Ok(());
    }
    let host = setup.hypervisor()?;
    // Its error knows the nearest name of a machine.
    if host.find(name)?.is_none() && !config::exists(&setup.workspace, name) {
        return config::load(&setup.workspace, name).map(drop);
    }
    host.own(name).map(drop)
}

/// Checks that a machine has that snapshot.
///
/// # Errors
/// There is no such machine or snapshot; libvirt does not answer.
pub fn require_snapshot(setup: &Setup, name: &MachineName, snapshot: &SnapshotName) -> Result<()> {
    if is_interrupted(setup, name)? {
        return Ok(());
    }
    let domain = setup.hypervisor()?.own(name)?;
    match domain.metadata().snapshot(snapshot) {
        Some(_) => Ok(()),
        None => Err(no_snapshot(domain.metadata(), snapshot).into()),
    }
}

/// Returns whether an earlier command was interrupted: then what there is of the machine is for the next command to judge.
pub fn is_interrupted(setup: &Setup, name: &MachineName) -> Result<bool> {
    Ok(journal::state(&setup.workspace.work_dir(), name)? != WorkState::Idle)
}
