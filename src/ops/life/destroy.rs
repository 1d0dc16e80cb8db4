//! `destroy` and `purge`: the only operations that delete data, and only what they name.

use serde::Serialize;

use crate::build::kept;
use crate::config;
use crate::disks::{foreign, free_stem};
use crate::error::{Failure, Result};
use crate::host::{Setup, Watch, open_pool};
use crate::hypervisor::{Hypervisor, Owned};
use crate::model::{MachineName, volume};
use crate::storage::Pool;
use crate::work::known::is_interrupted;
use crate::work::{Plan, Work};

/// What was deleted.
#[derive(Debug, Clone, Serialize)]
pub struct Destroyed {
    /// The machine.
    pub machine: MachineName,
    /// Whether it had a domain.
    pub domain: bool,
    /// Its volumes that are gone.
    pub volumes: Vec<String>,
    /// Whether `machines/NAME` is gone too.
    pub files: bool,
}

/// What a deletion does, each step after what refers to it less and before what refers to it more: the domain goes
/// after its volumes, so that a machine that was deleted half way is still listed.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    PowerOff,
    Volume(String),
    Kept,
    Undefine,
    Made,
    Files,
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::PowerOff => "switch the machine off".into(),
            Step::Volume(volume) => format!("delete {volume}"),
            Step::Kept => "forget what its generations were made from".into(),
            Step::Undefine => "undefine the domain".into(),
            Step::Made => "delete what was made from the machine's files".into(),
            Step::Files => "delete the machine's files".into(),
        }
    }
}

/// Returns the steps that delete what there is of a machine, and its files with `files`.
fn plan(domain: bool, volumes: &[String], files: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if domain {
        steps.push(Step::PowerOff);
    }
    steps.extend(volumes.iter().cloned().map(Step::Volume));
    steps.push(Step::Kept);
    if domain {
        steps.push(Step::Undefine);
    }
    if files {
        // First what the flake offers, or it would go on offering a machine that is no more.
        steps.extend([Step::Made, Step::Files]);
    }
    steps
}

/// Deletes a machine's domain and volumes; `machines/NAME` stays.
///
/// # Errors
/// There is neither a domain nor a volume of that machine, the domain is not nixvm's, or libvirt refuses.
pub fn destroy(setup: &Setup, name: &MachineName, watch: &dyn Watch) -> Result<Destroyed> {
    delete(&Work::begin(setup, name, "destroy", watch)?, false)
}

/// Deletes a machine's domain, volumes and `machines/NAME`.
///
/// # Errors
/// There is nothing of that name at all, the domain is not nixvm's, libvirt refuses, or the folder cannot be deleted.
pub fn purge(setup: &Setup, name: &MachineName, watch: &dyn Watch) -> Result<Destroyed> {
    let work = Work::begin(setup, name, "purge", watch)?;
    let purged = delete(&work, true)?;
    work.end_of_machine()?;
    Ok(purged)
}

/// Checks that there is something to delete, before anybody is asked whether to.
///
/// # Errors
/// There is nothing of that name, or its domain is not nixvm's.
pub fn require_something(setup: &Setup, name: &MachineName, with_files: bool) -> Result<()> {
    if is_interrupted(setup, name)? {
        return Ok(());
    }
    let host = setup.hypervisor()?;
    let domain = host.find(name)?.map(|_| host.own(name)).transpose()?;
    let pool = open_pool(setup, &host)?;
    let there = there(setup, (&host, &pool), name, domain.as_ref(), with_files)?;
    if domain.is_none() && there.is_empty() { Err(nothing(&host, name)) } else { Ok(()) }
}

/// What there is of a machine beside its domain.
struct There {
    volumes: Vec<String>,
    files: bool,
}

impl There {
    fn is_empty(&self) -> bool {
        self.volumes.is_empty() && !self.files
    }
}

fn there(
    setup: &Setup,
    (host, pool): (&Hypervisor, &Pool),
    name: &MachineName,
    domain: Option<&Owned>,
    with_files: bool,
) -> Result<There> {
    let stem = match domain {
        Some(domain) => domain.metadata().stem.clone(),
        // What a `create` left that was interrupted; not what a machine has that was renamed.
        None => free_stem(host, name)?,
    };
    // The firmware's variables and the serial log are not made by libvirt's storage, which has to look for them.
    pool.refresh()?;
    let own = |volume: &String| volume::parse(volume).is_some_and(|(owner, _)| owner == stem);
    let volumes: Vec<String> = pool.volumes()?.into_iter().filter(own).collect();
    Ok(There { volumes, files: with_files && config::exists(&setup.workspace, name) })
}

fn delete(work: &Work, with_files: bool) -> Result<Destroyed> {
    let (setup, host, name) = (work.setup, &work.host, &work.name);
    let domain = host.find(name)?.map(|_| host.own(name)).transpose()?;
    let pool = work.pool()?;
    let there = there(setup, (host, &pool), name, domain.as_ref(), with_files)?;
    // An earlier deletion may have done all but write it down: then its journal is what is left to delete.
    if domain.is_none() && there.is_empty() && !work.finishes {
        return Err(nothing(host, name));
    }
    let There { volumes, files } = there;
    let left =
        domain.as_ref().map(|domain| foreign::images(host, &pool, domain)).transpose()?.unwrap_or_default();
    // Before anything is deleted, and again by each deletion.
    volumes.iter().try_for_each(|volume| pool.require_unused(volume))?;
    work.carry_onward(&plan(domain.is_some(), &volumes, files), |step| match step {
        Step::PowerOff => host.own(name)?.force_off().map(drop),
        Step::Volume(volume) => pool.delete(volume).map(drop),
        Step::Undefine => host.own(name)?.undefine(),
        Step::Kept => kept::remove_folder(&kept::of_machine(setup, name)),
        Step::Made => kept::remove_outputs(setup, name),
        Step::Files => config::remove(&setup.workspace, name).map(drop),
    })?;
    if domain.is_some() || !volumes.is_empty() {
        work.watch.done(&format!("Deleted the domain and {} volumes of {name}", volumes.len()));
    }
    for image in left {
        work.watch.note(&format!("`{image}`, which another tool had {name} write to, stays"));
    }
    if files {
        work.watch.done(&format!("Deleted {}", setup.workspace.machine_dir(name).display()));
    }
    Ok(Destroyed { machine: name.clone(), domain: domain.is_some(), volumes, files })
}

fn nothing(host: &Hypervisor, name: &MachineName) -> anyhow::Error {
    Failure::user(format!("no machine `{name}` at `{}`; nothing was deleted", host.uri()))
        .hint("`nixvm list` shows the machines there are")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_outlives_its_volumes_and_the_files_outlive_both() {
        let volumes = ["web.boot-1.qcow2".to_owned(), "web.data-1.qcow2".to_owned()];
        let [boot, data] = volumes.clone().map(Step::Volume);
        assert_eq!(
            plan(true, &volumes, true),
            [Step::PowerOff, boot, data, Step::Kept, Step::Undefine, Step::Made, Step::Files]
        );
        assert_eq!(plan(false, &[], true), [Step::Kept, Step::Made, Step::Files]);
        assert!(!plan(true, &volumes, false).contains(&Step::Files));
    }
}
