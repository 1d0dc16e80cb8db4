//! `destroy` and `purge`: deletion of a whole machine.

use serde::Serialize;

use crate::build::kept;
use crate::config;
use crate::disks::{foreign, free_stem};
use crate::error::{Failure, Result};
use crate::file;
use crate::host::{Setup, Watch, open_pool};
use crate::hypervisor::{Hypervisor, Owned};
use crate::model::MachineName;
use crate::storage::Pool;
use crate::work::known::is_interrupted;
use crate::work::{Plan, Work};

#[derive(Debug, Clone, Serialize)]
pub struct Destroyed {
    pub machine: MachineName,
    /// Whether it had a domain.
    pub domain: bool,
    pub volumes: Vec<String>,
    /// Whether `machines/NAME` was deleted too.
    pub files: bool,
}

/// The domain is undefined after its volumes are deleted, so that a machine that was deleted half way is still listed.
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
            Step::Kept => "delete the kept sources of its generations".into(),
            Step::Undefine => "undefine the domain".into(),
            Step::Made => "delete the files made from the machine's files".into(),
            Step::Files => "delete the machine's files".into(),
        }
    }
}

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
        // The rendered module first, or the flake would still offer a machine that no longer exists.
        steps.extend([Step::Made, Step::Files]);
    }
    steps
}

/// Deletes a machine's domain and volumes; `machines/NAME` stays.
///
/// # Errors
/// Once a step has begun, the same command, or [`purge`], completes the work.
pub fn destroy(setup: &Setup, name: &MachineName, watch: &dyn Watch) -> Result<Destroyed> {
    delete(&Work::begin(setup, name, "destroy", watch)?, false)
}

/// Deletes a machine's domain, volumes and `machines/NAME`.
///
/// # Errors
/// Once a step has begun, the same command completes the work.
pub fn purge(setup: &Setup, name: &MachineName, watch: &dyn Watch) -> Result<Destroyed> {
    let work = Work::begin(setup, name, "purge", watch)?;
    let purged = delete(&work, true)?;
    work.end_of_machine()?;
    Ok(purged)
}

/// Checks that there is something to delete, before the user is asked to confirm.
pub fn require_something(setup: &Setup, name: &MachineName, with_files: bool) -> Result<()> {
    if is_interrupted(setup, name)? {
        return Ok(());
    }
    let host = setup.hypervisor()?;
    let domain = host.own_if_any(name)?;
    let pool = open_pool(setup, &host)?;
    let files = with_files && config::exists(&setup.workspace, name);
    if domain.is_none() && !files && volumes(&host, &pool, name, None)?.is_empty() {
        return Err(nothing(&host, name));
    }
    Ok(())
}

fn volumes(
    host: &Hypervisor,
    pool: &Pool,
    name: &MachineName,
    domain: Option<&Owned>,
) -> Result<Vec<String>> {
    let stem = match domain {
        Some(domain) => domain.metadata().stem.clone(),
        // Volumes that an interrupted `create` left, not those of a machine that was renamed.
        None => free_stem(host, name)?,
    };
    // QEMU makes the firmware's variables and the serial log; libvirt's pool does not know them before it is refreshed.
    pool.refresh()?;
    pool.volumes_of(&stem)
}

fn delete(work: &Work, with_files: bool) -> Result<Destroyed> {
    let (setup, host, name) = (work.setup, &work.host, &work.name);
    let domain = host.own_if_any(name)?;
    let pool = work.pool()?;
    let volumes = volumes(host, &pool, name, domain.as_ref())?;
    let files = with_files && config::exists(&setup.workspace, name);
    // An earlier deletion may have done everything but finish its journal, which is then all that is left to delete.
    if domain.is_none() && volumes.is_empty() && !files && !work.finishes {
        return Err(nothing(host, name));
    }
    let left =
        domain.as_ref().map(|domain| foreign::images(host, &pool, domain)).transpose()?.unwrap_or_default();
    // Checked before anything is deleted; each deletion checks it again.
    volumes.iter().try_for_each(|volume| pool.require_unused(volume))?;
    work.carry_onward(&plan(domain.is_some(), &volumes, files), |step| match step {
        Step::PowerOff => host.own(name)?.force_off().map(drop),
        Step::Volume(volume) => pool.delete(volume).map(drop),
        Step::Undefine => host.own(name)?.undefine(),
        Step::Kept => file::remove_folder(&kept::of_machine(setup, name)),
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
        for other in config::waiting_for(&setup.workspace, name)? {
            work.watch
                .note(&format!("{other} is to start after {name}: remove it from machines/{other}/after"));
        }
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
