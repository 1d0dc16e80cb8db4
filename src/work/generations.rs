//! A machine's generations: which one runs, how each came up, which are not needed.

use crate::build::kept;
use crate::error::{Failure, Result};
use crate::hypervisor::Seen;
use crate::model::Observation;
use crate::model::record::{BuildHealth, Metadata};
use crate::model::volume::Role;
use crate::work::{Plan, Work};

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

/// The record goes first, so that no generation is listed that is not there.
fn plan(metadata: &Metadata, numbers: &[u32]) -> Vec<Step> {
    let volumes: Vec<String> = numbers.iter().map(|number| Role::Boot(*number).of(&metadata.stem)).collect();
    let mut steps = vec![Step::Record(volumes.clone())];
    steps.extend(volumes.into_iter().map(Step::Volume));
    steps.extend(numbers.iter().copied().map(Step::Kept));
    steps
}

/// Returns the generations beyond the last `keep` that nothing needs. Needed are the one that is defined, the one that runs, the
/// last healthy one, and those of snapshots.
pub fn superfluous(metadata: &Metadata, running: Option<u32>, keep: usize) -> Vec<u32> {
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

/// Removes generations that are [`superfluous`]; an error, if one of them is needed after all.
pub fn remove(work: &Work, numbers: &[u32]) -> Result<()> {
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
        .hint("the machine changed meanwhile; run the command again")
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

/// Returns the generation that a machine runs; `None` while it is off.
pub fn running(domain: &Seen) -> Result<Option<u32>> {
    let observed = domain.observe()?;
    let active = observed.state.is_active();
    Ok(observed.metadata.filter(|_| active).map(|metadata| metadata.current().number))
}

/// Writes down how a generation came up, and what was seen of it.
pub fn record_health(
    work: &Work,
    number: u32,
    health: BuildHealth,
    seen: Option<&Observation>,
) -> Result<()> {
    let mut domain = work.domain()?;
    let mut generations = domain.metadata().generations.judged(number, health);
    if let Some(seen) = seen {
        generations = generations.seen(number, seen);
    }
    let metadata = Metadata { generations, ..domain.metadata().clone() };
    domain.set_metadata(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::tests::{build, snapshot};
    use crate::model::record::{Build, Generations};

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
