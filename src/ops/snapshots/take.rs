//! `snapshot`: takes a snapshot of a machine's data.
//!
//! A new layer is put on the layer of data in use, which is thereby frozen, and the metadata then records the frozen one. Of a
//! machine that is off, the definition does both at once. Of a running one, libvirt switches the disk (in the guest and in the
//! definition, both or neither), and the record is written after that. Were it written before, a nixvm that dies in between
//! would leave a record of a layer that the guest still writes to: a snapshot that changes, and that looks right as soon as
//! the next one freezes that layer at another moment. In this order a dying nixvm leaves a frozen layer that no record names:
//! a link of the chain like any other, which the next `delete-snapshot` merges away.

use serde::Serialize;

use crate::config;
use crate::disks::layers::{LONGEST, Layers};
use crate::disks::{files, layer_of, next_layer, nvram};
use crate::error::{Failure, Result};
use crate::host::{Setup, Watch};
use crate::hypervisor::Owned;
use crate::journal::Command;
use crate::model::record::{Metadata, Snapshot};
use crate::model::volume::{Role, VolumeStem};
use crate::model::{MachineName, SnapshotName, Timestamp};
use crate::storage::Pool;
use crate::work::merges::{self, Deleted};
use crate::work::{Plan, Work, steps};

#[derive(Debug, Clone, Serialize)]
pub struct TakenSnapshot {
    pub machine: MachineName,
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// Seconds for which the guest stood still while its disk was switched; `None` where it was off.
    pub seconds: Option<f64>,
    /// The oldest snapshots, which `keep` deleted.
    pub deleted: Vec<Deleted>,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Overlay { volume: String, on: String },
    Nvram(String),
    Define,
    Switch,
    Record,
    Delete(String),
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Overlay { .. } => "make a new layer for the data".into(),
            Step::Nvram(_) => "copy the firmware's variables".into(),
            Step::Define => "define the domain on the new layer".into(),
            Step::Switch => "switch the guest to the new layer".into(),
            Step::Record => "record the snapshot".into(),
            Step::Delete(volume) => format!("delete {volume}"),
        }
    }

    fn volumes(&self) -> Vec<String> {
        match self {
            Step::Overlay { volume, .. } | Step::Nvram(volume) | Step::Delete(volume) => vec![volume.clone()],
            Step::Define | Step::Switch | Step::Record => Vec::new(),
        }
    }
}

/// Returns the steps that freeze `layer` under the layer `new`, and delete the volumes that merges left.
fn plan(stem: &VolumeStem, layer: u32, new: u32, nvram: bool, runs: bool, merged: &[String]) -> Vec<Step> {
    let [on, volume] = [layer, new].map(|layer| Role::Data(layer).of(stem));
    let mut steps = vec![Step::Overlay { volume, on }];
    if nvram {
        steps.push(Step::Nvram(Role::FrozenNvram(layer).of(stem)));
    }
    if runs {
        steps.extend([Step::Switch, Step::Record]);
    } else {
        steps.push(Step::Define);
    }
    steps.extend(merged.iter().cloned().map(Step::Delete));
    steps
}

/// Takes a snapshot of a machine, named after the moment unless a name is `wanted`; then deletes the oldest beyond `keep`.
///
/// # Errors
/// The name is taken, the chain is too long or the pool has no space: nothing was changed. Where deleting an old snapshot
/// fails, the new one was taken.
pub fn snapshot(
    setup: &Setup,
    name: &MachineName,
    wanted: Option<&SnapshotName>,
    keep: Option<usize>,
    watch: &dyn Watch,
) -> Result<TakenSnapshot> {
    let words = [name.as_str()].into_iter().chain(wanted.map(SnapshotName::as_str));
    let work = Work::begin_command(setup, name, Command::new("snapshot", words), watch)?;
    let (pool, domain) = (work.pool()?, work.domain()?);
    let (snapshot, seconds) = take(&work, &pool, domain, wanted)?;
    let how =
        if snapshot.consistent { "" } else { "; its agent did not answer, so it is as after a power cut" };
    watch.done(&format!("Took the snapshot {} of {name}{how}", snapshot.name));

    let mut deleted = Vec::new();
    if let Some(keep) = keep {
        let taken = work.domain()?.metadata().snapshots.clone();
        for oldest in &taken[..taken.len().saturating_sub(keep)] {
            deleted.push(merges::delete(&work, &oldest.name)?);
        }
    }
    Ok(TakenSnapshot { machine: name.clone(), snapshot, seconds, deleted })
}

fn take(
    work: &Work,
    pool: &Pool,
    mut domain: Owned,
    wanted: Option<&SnapshotName>,
) -> Result<(Snapshot, Option<f64>)> {
    nvram::put_in_force(pool, &domain)?;
    if domain.state()?.is_active() {
        domain.end_merge()?;
    }
    let layers = Layers::of(pool, &domain)?;
    let name = free_name(&layers.metadata, wanted, Timestamp::now())?;
    check_length(&work.name, layers.chain.len())?;

    let (stem, layer) = (&layers.stem, layer_of(&domain)?);
    let new = next_layer(pool, stem)?;
    let runs = domain.state()?.is_active();
    let machine = config::load(&work.setup.workspace, &work.name)?;
    let nvram = nvram::exists(pool, stem)?;
    let mut seconds = None;
    let mut snapshot = Snapshot { consistent: !runs, ..layers.snapshot(name, layer, nvram) };
    work.watch.step(&format!("Taking the snapshot {} of {}", snapshot.name, work.name));
    work.carry_out(&plan(stem, layer, new, nvram, runs, &layers.merged), |step| match step {
        // A volume of this name would be orphaned: the number is above all that the machine refers to.
        Step::Overlay { volume, on } => pool.overlay(volume, on).map(drop),
        Step::Nvram(_) => nvram::copy(pool, stem, &Role::Nvram, &Role::FrozenNvram(layer)),
        Step::Define => {
            steps::define_on_layer(work, &domain, &machine, &with(&layers.metadata, &snapshot), new)
        }
        Step::Switch => {
            let path = format!("{}/{}", pool.path()?, Role::Data(new).of(stem));
            let switched = domain.switch_data(&path, true)?;
            snapshot.consistent = switched.quiesced;
            seconds = Some(switched.took.as_secs_f64());
            if layer_of(&domain)? == new {
                return Ok(());
            }
            // Its next start would go back to the frozen layer, and write to it.
            steps::define(work.setup, &work.host, &machine, &layers.metadata, new, work.watch)
        }
        Step::Record => {
            let metadata = with(&layers.metadata, &snapshot);
            domain.set_metadata(metadata)
        }
        Step::Delete(volume) => pool.delete(volume).map(drop),
    })?;
    files::name_disks(&work.host, &domain, work.watch)?;
    Ok((snapshot, seconds))
}

fn with(metadata: &Metadata, snapshot: &Snapshot) -> Metadata {
    let mut metadata = metadata.clone();
    metadata.snapshots.push(snapshot.clone());
    metadata
}

/// Returns `wanted`, or the first moment from `now` on that no other snapshot is named after.
fn free_name(metadata: &Metadata, wanted: Option<&SnapshotName>, now: Timestamp) -> Result<SnapshotName> {
    let Some(wanted) = wanted else {
        let mut moment = now;
        loop {
            let name: SnapshotName = moment.to_string().parse()?;
            match moment.next().filter(|_| metadata.snapshot(&name).is_some()) {
                Some(next) => moment = next,
                None => return Ok(name),
            }
        }
    };
    if metadata.snapshot(wanted).is_none() {
        return Ok(wanted.clone());
    }
    let machine = &metadata.machine;
    Err(Failure::user(format!("{machine} already has a snapshot `{wanted}`; nothing was changed"))
        .hint(format!("choose another name, or delete it: `nixvm delete-snapshot {machine} {wanted}`"))
        .into())
}

fn check_length(machine: &MachineName, length: usize) -> Result<()> {
    if length < LONGEST {
        return Ok(());
    }
    Err(Failure::user(format!(
        "the data disk of {machine} has {length} layers, and at most {LONGEST} are allowed; nothing was changed"
    ))
    .hint(format!(
        "each layer slows down reading; delete some of `nixvm snapshots {machine}`, or use `--keep N`"
    ))
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::layers::tests::layers;

    #[test]
    fn the_layer_that_is_in_use_is_named_by_no_record() {
        let stem: VolumeStem = "web".parse().unwrap();
        let overlay = || Step::Overlay { volume: "web.data-5.qcow2".into(), on: "web.data-3.qcow2".into() };
        let nvram = || Step::Nvram("web.nvram-3.fd".into());
        assert_eq!(plan(&stem, 3, 5, true, true, &[]), [overlay(), nvram(), Step::Switch, Step::Record]);
        assert_eq!(plan(&stem, 3, 5, true, false, &[]), [overlay(), nvram(), Step::Define]);
        assert_eq!(
            plan(&stem, 3, 5, false, false, &["x".into()]),
            [overlay(), Step::Define, Step::Delete("x".into())]
        );
    }

    #[test]
    fn a_name_is_given_once() {
        let metadata = layers(&[3, 2, 1], &[], &[("20260121-171147", 1), ("a", 2)]).metadata;
        let now = Timestamp::from_unix(1_769_015_507).unwrap();
        let name = |wanted: Option<&str>| {
            free_name(&metadata, wanted.map(|name| name.parse().unwrap()).as_ref(), now)
                .map(|name| name.to_string())
        };
        assert_eq!(name(None).unwrap(), "20260121-171148");
        assert_eq!(name(Some("b")).unwrap(), "b");
        assert_eq!(
            name(Some("a")).unwrap_err().to_string(),
            "web already has a snapshot `a`; nothing was changed"
        );
    }

    #[test]
    fn a_chain_has_an_end() {
        let web: MachineName = "web".parse().unwrap();
        check_length(&web, LONGEST - 1).unwrap();
        assert!(check_length(&web, LONGEST).is_err());
    }
}
