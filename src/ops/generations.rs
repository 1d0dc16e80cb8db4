//! `generations`: the builds of a machine that are in the pool, and the way to have fewer.

use serde::Serialize;

use crate::error::{Failure, Result};
use crate::model::MachineName;
use crate::model::record::{Build, BuildHealth, Metadata};
use crate::model::volume::Role;

use super::upgrade::running;
use super::work::{Plan, Work};
use super::{Setup, Watch, deploy, kept};

/// A generation of a machine.
#[derive(Debug, Clone, Serialize)]
pub struct ListedGeneration {
    /// What the domain says of it.
    #[serde(flatten)]
    pub build: Build,
    /// Whether the machine has it at its next start.
    pub current: bool,
    /// Whether the machine runs it.
    pub running: bool,
    /// The volume of its boot disk.
    pub volume: String,
    /// Bytes that this takes in the pool; `None` where it is missing.
    pub bytes: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Record(Vec<String>),
    Volume(String),
    Kept(u32),
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Record(_) => "take the generations out of the record".into(),
            Step::Volume(volume) => format!("delete {volume}"),
            Step::Kept(number) => format!("delete what is kept of generation {number}"),
        }
    }

    fn volumes(&self) -> Vec<String> {
        match self {
            Step::Record(volumes) => volumes.clone(),
            Step::Volume(_) | Step::Kept(_) => Vec::new(),
        }
    }
}

/// Returns the steps that remove generations: the record of them first, so that none is listed that is not there.
fn plan(metadata: &Metadata, numbers: &[u32]) -> Vec<Step> {
    let volumes: Vec<String> = numbers.iter().map(|number| Role::Boot(*number).of(&metadata.stem)).collect();
    let mut steps = vec![Step::Record(volumes.clone())];
    steps.extend(volumes.into_iter().map(Step::Volume));
    steps.extend(numbers.iter().copied().map(Step::Kept));
    steps
}

/// Returns the generations beyond the last `keep` that nothing needs: not the one that is defined, the one that runs,
/// the last that was healthy, or one that a snapshot goes back to.
pub(super) fn superfluous(metadata: &Metadata, running: Option<u32>, keep: usize) -> Vec<u32> {
    let all = metadata.generations.all();
    let healthy = all.iter().rev().find(|build| build.health == BuildHealth::Healthy);
    let needed = |number: u32| {
        number == metadata.current().number
            || Some(number) == running
            || healthy.is_some_and(|build| build.number == number)
            || metadata.snapshots.iter().any(|snapshot| snapshot.generation == number)
    };
    let old = all.len().saturating_sub(keep);
    all.iter().take(old).map(|build| build.number).filter(|number| !needed(*number)).collect()
}

/// Returns a machine's generations, by number.
///
/// # Errors
/// There is no such machine, or libvirt does not answer.
pub fn generations(setup: &Setup, name: &MachineName) -> Result<Vec<ListedGeneration>> {
    let host = setup.hypervisor()?;
    let domain = host.see(name)?;
    let (metadata, running) = (domain.metadata(), running(&domain)?);
    let pool = deploy::open_pool(setup, &host)?;
    let list = |build: &Build| {
        let volume = Role::Boot(build.number).of(&metadata.stem);
        Ok(ListedGeneration {
            build: build.clone(),
            current: build.number == metadata.current().number,
            running: Some(build.number) == running,
            bytes: pool.usage(&volume)?.map(|usage| usage.allocation),
            volume,
        })
    };
    metadata.generations.all().iter().map(list).collect()
}

/// Removes the generations of a machine beyond the last `keep`, except those that are needed, and returns their numbers.
///
/// # Errors
/// There is no such machine, or a step fails; running it again completes the work.
pub fn keep_generations(
    setup: &Setup,
    name: &MachineName,
    keep: usize,
    watch: &dyn Watch,
) -> Result<Vec<u32>> {
    let work = Work::begin(setup, name, "generations", watch)?;
    let domain = work.domain()?;
    let numbers = superfluous(domain.metadata(), running(&domain)?, keep);
    remove(&work, &numbers)?;
    match numbers.len() {
        0 => watch.note(&format!("{name} has no generation to remove")),
        count => watch.done(&format!("Removed {count} generation(s) of {name}")),
    }
    Ok(numbers)
}

/// Removes generations that are [`superfluous`].
///
/// # Errors
/// One of them is needed after all, or a step fails.
pub(super) fn remove(work: &Work, numbers: &[u32]) -> Result<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    let mut domain = work.domain()?;
    let superfluous = superfluous(domain.metadata(), running(&domain)?, 0);
    if let Some(needed) = numbers.iter().find(|number| !superfluous.contains(number)) {
        return Err(Failure::user(format!(
            "generation {needed} of {} is needed; nothing was deleted",
            work.name
        ))
        .hint("the machine changed meanwhile: run the command again")
        .into());
    }
    let steps = plan(domain.metadata(), numbers);
    let pool = work.pool()?;
    work.carry_out(&steps, |step| match step {
        Step::Record(_) => {
            let old = domain.metadata().clone();
            let generations = old.generations.retain(|build| !numbers.contains(&build.number));
            let metadata = Metadata { generations, ..old };
            domain.set_metadata(metadata)
        }
        Step::Volume(volume) => pool.delete(volume).map(drop),
        Step::Kept(number) => kept::forget(work.setup, &work.name, *number),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::Generations;
    use crate::model::record::tests::{build, snapshot};

    fn metadata(count: u32, current: u32) -> Metadata {
        let all = (1..=count).map(|number| Build { health: BuildHealth::Untried, ..build(number) }).collect();
        Metadata {
            machine: "web".parse().unwrap(),
            workspace: "/w".into(),
            stem: "web_2".parse().unwrap(),
            ssh_port: None,
            generations: Generations::new(current, all).unwrap(),
            snapshots: Vec::new(),
        }
    }

    #[test]
    fn what_is_needed_is_never_superfluous() {
        let mut six = metadata(6, 6);
        assert_eq!(superfluous(&six, None, 2), [1, 2, 3, 4]);
        assert_eq!(superfluous(&six, None, 9), [0; 0]);
        assert_eq!(superfluous(&six, Some(1), 0), [2, 3, 4, 5]);
        six.generations = six.generations.judged(2, BuildHealth::Healthy).judged(3, BuildHealth::Healthy);
        assert_eq!(superfluous(&six, Some(1), 2), [2, 4]);
        six.snapshots = vec![snapshot("before", 1)];
        assert_eq!(superfluous(&six, None, 2), [2, 4]);
        six.generations = six.generations.at(4);
        assert_eq!(superfluous(&six, None, 2), [2]);
    }

    #[test]
    fn the_record_goes_before_the_volumes() {
        let volume = "web_2.boot-1.qcow2".to_owned();
        assert_eq!(
            plan(&metadata(3, 3), &[1]),
            [Step::Record(vec![volume.clone()]), Step::Volume(volume), Step::Kept(1)]
        );
    }
}
