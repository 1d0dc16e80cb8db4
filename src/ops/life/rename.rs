//! `rename`: the same machine under another name.
//!
//! libvirt, the machine's folder and what a build made know it by its name, and no two of them change together. So the work
//! can only go onward, both names are locked, and both say that it was interrupted. Until the folder, which is renamed
//! last, has the new name, the same command finds the machine by its UUID and finishes.

use std::fs;

use serde::Serialize;

use crate::build::kept;
use crate::config;
use crate::disks::layer_of;
use crate::error::{Explain, Failure, Result};
use crate::host::{Setup, Watch};
use crate::hypervisor::{Owned, is_own_checkpoint};
use crate::model::record::Metadata;
use crate::model::{Machine, MachineName};
use crate::work::{Plan, Work, steps};

/// A machine under its new name.
#[derive(Debug, Clone, Serialize)]
pub struct Renamed {
    /// Its name.
    pub machine: MachineName,
    /// The name that it had.
    pub was: MachineName,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Hostname,
    Tidy,
    Checkpoints,
    Domain,
    Define,
    Files,
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Hostname => "change the hostname among the machine's files".into(),
            Step::Tidy => "take along or remove what was built under the old name".into(),
            Step::Checkpoints => "forget the checkpoints".into(),
            Step::Domain => "rename the domain".into(),
            Step::Define => "define the domain anew".into(),
            Step::Files => "rename the machine's folder".into(),
        }
    }
}

/// Returns the steps of `rename`; the folder, by which the machine is found again, comes last.
fn plan(has_hostname: bool, has_domain: bool, has_checkpoints: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if has_hostname {
        steps.push(Step::Hostname);
    }
    steps.push(Step::Tidy);
    if has_checkpoints {
        // libvirt 9.0 puts what it wrote down of them into the folder of the new name's snapshots, and misses it when it is
        // started anew.
        steps.push(Step::Checkpoints);
    }
    if has_domain {
        steps.extend([Step::Domain, Step::Define]);
    }
    steps.push(Step::Files);
    steps
}

/// Gives a machine that is off another name. Its identity, its disks and their names stay.
///
/// # Errors
/// There is no such machine, it runs, there is one of the new name, or libvirt refuses; once begun, the same command
/// finishes the work.
pub fn rename(setup: &Setup, old: &MachineName, new: &MachineName, watch: &dyn Watch) -> Result<Renamed> {
    let workspace = &setup.workspace;
    let (work, under_new) = Work::begin_both((setup, old), (setup, new), "rename", watch)?;
    let renamed = Renamed { machine: new.clone(), was: old.clone() };
    if (work.resumed.is_some() || under_new.resumed.is_some())
        && !config::exists(workspace, old)
        && config::exists(workspace, new)
    {
        // The folder came last: nothing is left but to say so.
        let nothing: [Step; 0] = [];
        work.carry_both_onward(&under_new, &nothing, |_| Ok(()))?;
        watch.done(&format!("{old} is {new}"));
        return Ok(renamed);
    }
    let before = config::load(workspace, old)?;
    config::remove_empty(workspace, new)?;
    let domain = work.host.own_either(before.machine_id, (old, new))?;
    require_free(&work, &before, new)?;
    if let Some(domain) = &domain {
        require_off(domain, old)?;
    }
    let follows = before.hostname == old.into();
    let machine = Machine {
        name: new.clone(),
        hostname: if follows { new.into() } else { before.hostname.clone() },
        ..before
    };
    let mut checkpoints = domain.as_ref().map_or(Ok(Vec::new()), |domain| domain.checkpoints())?;
    checkpoints.retain(|checkpoint| is_own_checkpoint(checkpoint));
    let steps = plan(follows, domain.is_some(), !checkpoints.is_empty());
    work.carry_both_onward(&under_new, &steps, |step| match (step, &domain) {
        (Step::Hostname, _) => {
            config::change(workspace, old, |files| files.hostname = Some(machine.hostname.clone())).map(drop)
        }
        (Step::Tidy, _) => tidy(setup, old, new),
        (Step::Checkpoints, Some(domain)) => {
            checkpoints.iter().try_for_each(|name| domain.forget_checkpoint(name).map(drop))
        }
        (Step::Domain, Some(domain)) => domain.rename(new),
        (Step::Define, Some(domain)) => {
            let metadata = Metadata { machine: new.clone(), ..domain.metadata().clone() };
            let layer = layer_of(domain)?;
            steps::define(setup, &work.host, &machine, &metadata, layer, watch)
        }
        (Step::Files, _) => config::rename(workspace, old, new),
        (Step::Checkpoints | Step::Domain | Step::Define, None) => Ok(()),
    })?;
    watch.done(&format!("{old} is {new}"));
    if !checkpoints.is_empty() {
        watch.note("its next incremental backup begins anew, as a full one");
    }
    if domain.is_some() {
        watch.note(&match follows {
            true => format!("its guest calls itself {old} until it has a new image: `nixvm upgrade {new}`"),
            false => format!("its guest calls itself {}, as before", machine.hostname),
        });
    }
    Ok(renamed)
}

/// Checks that no other machine has the new name.
fn require_free(work: &Work, machine: &Machine, new: &MachineName) -> Result<()> {
    let other = work.host.find(new)?.is_some_and(|other| other.id != machine.machine_id);
    if !other && !config::exists(&work.setup.workspace, new) {
        return Ok(());
    }
    let what = if other {
        "libvirt has a domain".into()
    } else {
        format!("machines/{new} is there, so there is a machine")
    };
    Err(Failure::user(format!("{what} `{new}`; nothing was changed")).hint("choose another name").into())
}

fn require_off(domain: &Owned, old: &MachineName) -> Result<()> {
    if !domain.state()?.is_active() {
        return Ok(());
    }
    Err(Failure::user(format!("{old} is on; nothing was changed"))
        .hint(format!("libvirt renames only what is off: `nixvm stop {old}`"))
        .into())
}

/// Removes what is made anew under the new name when it is needed, and takes along what its generations were made from.
fn tidy(setup: &Setup, old: &MachineName, new: &MachineName) -> Result<()> {
    let [from, to] = [old, new].map(|name| kept::of_machine(setup, name));
    if from.exists() {
        // Of a machine that had the name before.
        kept::remove_folder(&to)?;
        fs::rename(&from, &to).explain(|| Failure::user(format!("cannot rename {}", from.display())))?;
    }
    kept::remove_outputs(setup, old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_comes_last_and_the_domain_is_defined_only_under_its_new_name() {
        assert_eq!(
            plan(true, true, true),
            [Step::Hostname, Step::Tidy, Step::Checkpoints, Step::Domain, Step::Define, Step::Files]
        );
        assert_eq!(plan(false, false, false), [Step::Tidy, Step::Files]);
    }
}
