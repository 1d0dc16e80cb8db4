//! The steps of a restore: a pure function of what is there and what is wanted.

use crate::journal::Intent;
use crate::model::volume::{Role, VolumeStem};
use crate::work::Plan;
use crate::work::steps::Deploy;

/// Up to `Define` the machine is shut down, and not changed otherwise.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Deploy(Deploy),
    Data { archive: usize, volume: String, on: Option<String> },
    NextNvram(String),
    Files,
    PowerOff,
    Define(u32),
    PutNvram,
    Checkpoints,
    Replaced(Vec<String>),
    Start,
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Deploy(step) => step.title(),
            Step::Data { volume, .. } => format!("put the data into the pool as {volume}"),
            Step::NextNvram(_) => "prepare the firmware's variables".into(),
            Step::Files => "write the machine's files".into(),
            Step::PowerOff => "shut the machine down".into(),
            Step::Define(_) => "define the domain on the restored data".into(),
            Step::PutNvram => "put the firmware's variables in force".into(),
            Step::Checkpoints => "forget the checkpoints of the replaced data".into(),
            Step::Replaced(_) => "delete the replaced data".into(),
            Step::Start => "start the machine".into(),
        }
    }

    fn intent(&self) -> Option<Intent> {
        match self {
            Step::Define(layer) => Some(Intent::Layer(*layer)),
            Step::Start => Some(Intent::Restart),
            _ => None,
        }
    }

    fn volumes(&self) -> Vec<String> {
        match self {
            Step::Deploy(step) => step.volumes(),
            Step::Data { volume, .. } | Step::NextNvram(volume) => vec![volume.clone()],
            Step::Replaced(volumes) => volumes.clone(),
            _ => Vec::new(),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) stem: VolumeStem,
    /// The volumes of the data in use, if the machine has a domain.
    pub(super) replaced: Option<Vec<String>>,
    pub(super) running: bool,
    /// The generation to put into the pool; `None` keeps the current one.
    pub(super) build: Option<u32>,
    /// The highest layer of data in the pool.
    pub(super) highest: u32,
    pub(super) archives: usize,
    pub(super) nvram: bool,
    pub(super) folder: bool,
}

pub(super) fn plan(facts: &Facts) -> Vec<Step> {
    let stem = &facts.stem;
    let born = facts.replaced.is_none();
    let mut steps = Vec::new();
    if let Some(generation) = facts.build {
        let system = [Deploy::Network, Deploy::Base, Deploy::Boot(Role::Boot(generation).of(stem))];
        steps.extend(system.map(Step::Deploy));
    }
    let volume = |archive: usize| Role::Data(layer(facts, archive)).of(stem);
    for archive in 0..facts.archives {
        let on = archive.checked_sub(1).map(volume);
        steps.push(Step::Data { archive, volume: volume(archive), on });
    }
    if born {
        steps.push(Step::Deploy(Deploy::Identity(Role::Identity.of(stem))));
    }
    if facts.nvram {
        steps.push(Step::NextNvram(Role::NextNvram(top(facts)).of(stem)));
    }
    if !facts.folder {
        // Without files the domain could not be started.
        steps.push(Step::Files);
    }
    if facts.running {
        steps.push(Step::PowerOff);
    }
    steps.push(Step::Define(top(facts)));
    if facts.nvram {
        steps.push(Step::PutNvram);
    }
    if facts.folder {
        // The old data stays until the machine is defined, and so do its files.
        steps.push(Step::Files);
    }
    if facts.replaced.is_some() {
        steps.push(Step::Checkpoints);
    }
    if facts.running {
        steps.push(Step::Start);
    }
    // Last, for a deletion may have to wait.
    steps.extend(facts.replaced.clone().map(Step::Replaced));
    steps
}

/// Returns the steps that are left of a restore which was interrupted after the definition. The replaced data was deleted when
/// the work was cleaned up. The step of the definition stays in the plan, so that the journal shows that it was made.
pub(super) fn end_of(mut steps: Vec<Step>, layer: u32) -> Vec<Step> {
    let behind = steps.iter().position(|step| matches!(step, Step::Define(_))).map_or(0, |at| at + 1);
    let end = steps.split_off(behind).into_iter().filter(|step| !matches!(step, Step::Replaced(_)));
    std::iter::once(Step::Define(layer)).chain(end).collect()
}

/// Returns the layer that an archive of the chain becomes, above all those in the pool.
fn layer(facts: &Facts, archive: usize) -> u32 {
    facts.highest.saturating_add(1).saturating_add(u32::try_from(archive).unwrap_or(u32::MAX))
}

/// Returns the layer that the machine will write to.
pub(super) fn top(facts: &Facts) -> u32 {
    layer(facts, facts.archives.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            stem: "web".parse().unwrap(),
            replaced: Some(vec!["web.data-4.qcow2".into(), "web.data-2.qcow2".into()]),
            running: true,
            build: None,
            highest: 7,
            archives: 2,
            nvram: true,
            folder: true,
        }
    }

    fn at(steps: &[Step], wanted: impl Fn(&Step) -> bool) -> usize {
        steps.iter().position(wanted).unwrap()
    }

    #[test]
    fn what_is_new_is_whole_before_the_machine_stops_and_what_is_old_goes_after_it_is_defined() {
        let steps = plan(&facts());
        let define = at(&steps, |step| *step == Step::Define(9));
        let off = at(&steps, |step| *step == Step::PowerOff);
        let above =
            Step::Data { archive: 1, volume: "web.data-9.qcow2".into(), on: Some("web.data-8.qcow2".into()) };
        assert!(at(&steps, |step| *step == above) < off && off < define);
        for late in [Step::Files, Step::Checkpoints, Step::Replaced(facts().replaced.unwrap()), Step::Start] {
            assert!(at(&steps, |step| *step == late) > define, "{late:?}");
        }
        assert!(matches!(steps.last(), Some(Step::Replaced(_))), "a deletion may have to wait");
        // In use, or the running machine's own.
        assert!(
            !steps.iter().any(|step| matches!(step, Step::Deploy(Deploy::Identity(_) | Deploy::Boot(_))))
        );
    }

    #[test]
    fn behind_the_definition_nothing_is_restored_again_and_nothing_deleted() {
        assert_eq!(
            end_of(plan(&facts()), 3),
            [Step::Define(3), Step::PutNvram, Step::Files, Step::Checkpoints, Step::Start]
        );
    }

    #[test]
    fn a_machine_that_is_not_there_gets_everything_and_is_defined_last() {
        let new = Facts {
            replaced: None,
            running: false,
            build: Some(1),
            highest: 0,
            archives: 1,
            folder: false,
            ..facts()
        };
        let steps = plan(&new);
        assert_eq!(steps[steps.len() - 2..], [Step::Define(1), Step::PutNvram]);
        let volumes: Vec<String> = steps.iter().flat_map(Step::volumes).collect();
        assert_eq!(
            volumes,
            ["web.boot-1.qcow2", "web.data-1.qcow2", "web.identity.img", "web.nvram-next-1.fd"]
        );
        assert!(at(&steps, |step| *step == Step::Files) < at(&steps, |step| *step == Step::Define(1)));
    }
}
