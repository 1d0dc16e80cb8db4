//! Checks that come before a question is asked, or the first of several machines worked on.

use std::collections::BTreeSet;

use crate::config;
use crate::error::{Failure, Report, Result};
use crate::host::{Call, Setup};
use crate::journal::{self, WorkState};
use crate::model::record::Metadata;
use crate::model::suggest::did_you_mean;
use crate::model::{MachineName, SnapshotName};

/// What there has to be of a machine so that a verb can work on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    Domain,
    /// Its files; a domain too for a machine without files.
    Files,
}

/// Checks that all these machines exist, so that a typing error in the last name is found before the first is worked on.
pub fn require_all(call: &Call, names: &BTreeSet<MachineName>, needs: Needs) -> Result<()> {
    let checked = names.iter().map(|name| (name, call.machine(name).and_then(|s| require(&s, name, needs))));
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

fn require(setup: &Setup, name: &MachineName, needs: Needs) -> Result<()> {
    if is_interrupted(setup, name)? || needs == Needs::Files && config::exists(&setup.workspace, name) {
        return Ok(());
    }
    let host = setup.hypervisor()?;
    // Its error knows the nearest name of a machine.
    if host.find(name)?.is_none() && !config::exists(&setup.workspace, name) {
        return config::load(&setup.workspace, name).map(drop);
    }
    host.own(name).map(drop)
}

/// Returns whether there is anything to work on: a domain, or what an interrupted command left.
pub fn is_made(setup: &Setup, name: &MachineName) -> Result<bool> {
    Ok(is_interrupted(setup, name)? || setup.hypervisor()?.find(name)?.is_some())
}

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

/// Refuses to delete the data of a machine that is protected, unless the setup says otherwise.
pub fn require_unprotected(setup: &Setup, name: &MachineName) -> Result<()> {
    if setup.unprotect || !config::is_protected(&setup.workspace, name)? {
        return Ok(());
    }
    Err(Failure::user(format!("{name} is protected, as machines/{name}/protect says; nothing was changed"))
        .hint(format!(
            "`--unprotect` does it nevertheless; `nixvm set {name} protect=no` ends the protection"
        ))
        .into())
}

/// Returns whether an earlier command was interrupted: then only the next command can judge what there is of the machine.
pub fn is_interrupted(setup: &Setup, name: &MachineName) -> Result<bool> {
    Ok(journal::state(&setup.workspace.work_dir(), name)? != WorkState::Idle)
}

/// Returns the refusal of a snapshot that a machine does not have.
pub fn no_snapshot(metadata: &Metadata, name: &SnapshotName) -> Failure {
    let machine = &metadata.machine;
    let near = did_you_mean(name.as_str(), metadata.snapshots.iter().map(|snapshot| snapshot.name.as_str()));
    Failure::user(format!("{machine} has no snapshot `{name}`; nothing was changed")).hint(match near {
        Some(near) => format!("did you mean `{near}`? `nixvm snapshots {machine}` shows all"),
        None => format!("`nixvm snapshots {machine}` shows those there are"),
    })
}
