//! `rename`: the same machine under another name.
//!
//! libvirt, the machine's folder and the files of its builds all carry the name, and no two of them change together. So an
//! interrupted rename can only be finished: both names are locked, and both say that it was interrupted. The folder is
//! renamed last; until then the same command finds the machine by its UUID and continues.

use std::fs;

use serde::Serialize;

use crate::build::kept;
use crate::config;
use crate::disks::layer_of;
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::host::{Setup, Watch};
use crate::hypervisor::is_own_checkpoint;
use crate::model::record::Metadata;
use crate::model::{Machine, MachineName};
use crate::work::{Plan, Work, steps};

#[derive(Debug, Clone, Serialize)]
pub struct Renamed {
    pub machine: MachineName,
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
            Step::Tidy => "move or remove what was built under the old name".into(),
            Step::Checkpoints => "delete the records of checkpoints".into(),
            Step::Domain => "rename the domain".into(),
            Step::Define => "define the domain again".into(),
            Step::Files => "rename the machine's folder".into(),
        }
    }
}

/// Returns the steps; the folder comes last, because an interrupted rename is found again by it.
fn plan(has_hostname: bool, has_domain: bool, has_checkpoints: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if has_hostname {
        steps.push(Step::Hostname);
    }
    steps.push(Step::Tidy);
    if has_checkpoints {
        // libvirt 9.0 moves their records into the folder of the new name's snapshots, and misses them at its next start.
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
/// Nothing was changed if the machine runs or the new name is taken. Once a step has begun, only the same command completes
/// the work.
pub fn rename(setup: &Setup, old: &MachineName, new: &MachineName, watch: &dyn Watch) -> Result<Renamed> {
    let workspace = &setup.workspace;
    let (work, under_new) = Work::begin_both((setup, old), (setup, new), "rename", watch)?;
    let renamed = Renamed { machine: new.clone(), was: old.clone() };
    if (work.resumed.is_some() || under_new.resumed.is_some())
        && !config::exists(workspace, old)
        && config::exists(workspace, new)
    {
        // The folder comes last, so every step was taken.
        work.carry_both_onward::<Step>(&under_new, &[], |_| Ok(()))?;
        watch.done(&format!("Renamed {old} to {new}"));
        return Ok(renamed);
    }
    let before = config::load(workspace, old)?;
    config::remove_empty(workspace, new)?;
    let domain = work.host.own_either(before.machine_id, (old, new))?;
    require_free(&work, &before, new)?;
    if let Some(domain) = &domain
        && domain.state()?.is_active()
    {
        return Err(Failure::user(format!("{old} is on; nothing was changed"))
            .hint(format!("libvirt renames only a machine that is off: `nixvm stop {old}`"))
            .into());
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
            steps::define(setup, &work.host, &machine, &metadata, layer_of(domain)?, watch)
        }
        (Step::Files, _) => config::rename(workspace, old, new),
        (Step::Checkpoints | Step::Domain | Step::Define, None) => Ok(()),
    })?;
    watch.done(&format!("Renamed {old} to {new}"));
    if !checkpoints.is_empty() {
        watch.note("its next incremental backup will be a full one");
    }
    for other in config::waiting_for(workspace, old)? {
        watch.note(&format!("{other} is to start after {old}: write {new} into machines/{other}/after"));
    }
    if domain.is_some() {
        watch.note(&if follows {
            format!("its guest keeps the hostname {old} until it has a new image: `nixvm upgrade {new}`")
        } else {
            format!("its guest keeps the hostname {}", machine.hostname)
        });
    }
    Ok(renamed)
}

fn require_free(work: &Work, machine: &Machine, new: &MachineName) -> Result<()> {
    let other = work.host.find(new)?.is_some_and(|other| other.id != machine.machine_id);
    if !other && !config::exists(&work.setup.workspace, new) {
        return Ok(());
    }
    let what = if other {
        "libvirt has a domain".into()
    } else {
        format!("machines/{new} exists, so there is a machine")
    };
    Err(Failure::user(format!("{what} `{new}`; nothing was changed")).hint("choose another name").into())
}

/// Moves the kept sources of its generations to the new name, and removes what the next build makes again.
fn tidy(setup: &Setup, old: &MachineName, new: &MachineName) -> Result<()> {
    let [from, to] = [old, new].map(|name| kept::of_machine(setup, name));
    if from.exists() {
        // Left by an earlier machine of the new name.
        file::remove_folder(&to)?;
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
