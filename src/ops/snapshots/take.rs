//! `snapshot`: a point that can be gone back to.
//!
//! The layer of data in use is frozen by going on in a new one that lies on it, and the metadata then names the frozen
//! one. Of a machine that is off, the definition does both at once. Of one that runs, libvirt switches the disk (in what
//! runs and in the definition, both or neither), and the record is written after that. Were it written before, a nixvm
//! that dies in between would leave a record of a layer that the guest goes on writing to: a snapshot that changes, and
//! that looks right as soon as the next one freezes that layer at another moment. In this order it leaves a frozen layer
//! that no record names: a link of the chain like any other, which the next `delete-snapshot` merges away. At no boundary
//! is there a snapshot that is not exactly what was frozen, or a layer in use that lacks what was written.

use serde::Serialize;

use crate::config;
use crate::disks::layers::{LONGEST, Layers, forget_checkpoints};
use crate::disks::{data_layers, files, layer_of, nvram};
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

/// A snapshot that was taken.
#[derive(Debug, Clone, Serialize)]
pub struct Taken {
    /// The machine.
    pub machine: MachineName,
    /// What is recorded of it.
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// For how many seconds the machine's disk was being switched, its guest standing still; `None` where it was off.
    pub seconds: Option<f64>,
    /// The oldest ones, which were deleted.
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
            Step::Switch => "let the guest go on in the new layer".into(),
            Step::Record => "write down the snapshot".into(),
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

/// Returns the steps that freeze `layer` and go on in the layer `new`, and delete what merges left.
fn plan(stem: &VolumeStem, layer: u32, new: u32, nvram: bool, runs: bool, merged: &[String]) -> Vec<Step> {
    let [on, volume] = [layer, new].map(|layer| Role::Data(layer).of(stem));
    let mut steps = vec![Step::Overlay { volume, on }];
    if nvram {
        steps.push(Step::Nvram(Role::FrozenNvram(layer).of(stem)));
    }
    match runs {
        true => steps.extend([Step::Switch, Step::Record]),
        false => steps.push(Step::Define),
    }
    steps.extend(merged.iter().cloned().map(Step::Delete));
    steps
}

/// Takes a snapshot of a machine, named after the moment where `wanted` says nothing; then deletes the oldest beyond
/// `keep` of them.
///
/// # Errors
/// There is one of that name, the chain is as long as it may be or not whole, the pool has no space, or libvirt fails.
pub fn snapshot(
    setup: &Setup,
    name: &MachineName,
    wanted: Option<&SnapshotName>,
    keep: Option<usize>,
    watch: &dyn Watch,
) -> Result<Taken> {
    let words = [name.as_str()].into_iter().chain(wanted.map(SnapshotName::as_str));
    let work = Work::begin_command(setup, name, Command::new("snapshot", words), watch)?;
    let (pool, domain) = (work.pool()?, work.domain()?);
    let (snapshot, seconds) = take(&work, &pool, domain, wanted)?;
    let how =
        if snapshot.consistent { "" } else { "; its agent did not answer, so it is as after a power cut" };
    watch.done(&format!("Took the snapshot {} of {name}{how}", snapshot.name));

    let mut deleted = Vec::new();
    if let Some(keep) = keep {
        loop {
            let domain = work.domain()?;
            let snapshots = &domain.metadata().snapshots;
            match snapshots.first().filter(|_| snapshots.len() > keep) {
                Some(oldest) => deleted.push(merges::delete(&work, &oldest.name.clone())?),
                None => break,
            }
        }
    }
    Ok(Taken { machine: name.clone(), snapshot, seconds, deleted })
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
    let new = data_layers(pool, stem)?.last().copied().unwrap_or(layer) + 1;
    let runs = domain.state()?.is_active();
    let machine = config::load(&work.setup.workspace, &work.name)?;
    let nvram = nvram::exists(pool, stem)?;
    let mut seconds = None;
    let mut snapshot = Snapshot {
        name,
        taken: Timestamp::now().unix(),
        layer,
        merging: None,
        nvram,
        generation: layers.metadata.current().number,
        consistent: !runs,
    };
    work.watch.step(&format!("Taking the snapshot {} of {}", snapshot.name, work.name));
    work.carry_out(&plan(stem, layer, new, nvram, runs, &layers.merged), |step| match step {
        Step::Overlay { volume, on } => {
            // What lies there under this name is nobody's: the number is above all that the machine refers to.
            pool.overlay(volume, on).map(drop)
        }
        Step::Nvram(_) => nvram::copy(pool, stem, &Role::Nvram, &Role::FrozenNvram(layer)),
        Step::Define => {
            if domain.state()?.is_active() {
                return Err(Failure::user(format!("{} was started meanwhile", work.name))
                    .hint("run the command again")
                    .into());
            }
            forget_checkpoints(&domain, work.watch)?;
            let metadata = with(&layers.metadata, &snapshot);
            steps::define(work.setup, &work.host, &machine, &metadata, new, work.watch)
        }
        Step::Switch => {
            let path = format!("{}/{}", pool.path()?, Role::Data(new).of(stem));
            let switched = domain.switch_data(&path, true)?;
            snapshot.consistent = switched.quiesced;
            seconds = Some(switched.took.as_secs_f64());
            match layer_of(&domain)? {
                now if now == new => Ok(()),
                // Its next start would go back to the frozen layer, and write to it.
                _ => steps::define(work.setup, &work.host, &machine, &layers.metadata, new, work.watch),
            }
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

/// Returns the name for a snapshot: `wanted`, or the first moment from `now` on that no other is named after.
fn free_name(metadata: &Metadata, wanted: Option<&SnapshotName>, now: Timestamp) -> Result<SnapshotName> {
    if let Some(wanted) = wanted {
        if metadata.snapshot(wanted).is_some() {
            let machine = &metadata.machine;
            return Err(Failure::user(format!("{machine} has a snapshot `{wanted}`; nothing was changed"))
                .hint(format!(
                    "give another name, or delete that one: `nixvm delete-snapshot {machine} {wanted}`"
                ))
                .into());
        }
        return Ok(wanted.clone());
    }
    let mut moment = now;
    loop {
        let name: SnapshotName = moment.to_string().parse()?;
        match moment.next().filter(|_| metadata.snapshot(&name).is_some()) {
            Some(next) => moment = next,
            None => return Ok(name),
        }
    }
}

fn check_length(machine: &MachineName, length: usize) -> Result<()> {
    if length < LONGEST {
        return Ok(());
    }
    Err(Failure::user(format!(
        "the data disk of {machine} lies on {length} layers, and no more than {LONGEST} are allowed; nothing was changed"
    ))
    .hint(format!(
        "every layer is opened at every start and slows down reading: delete snapshots that are not needed any more \
         (`nixvm snapshots {machine}`), or let each new one delete the oldest with `--keep N`"
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
        assert_eq!(name(Some("a")).unwrap_err().to_string(), "web has a snapshot `a`; nothing was changed");
    }

    #[test]
    fn a_chain_has_an_end() {
        let web: MachineName = "web".parse().unwrap();
        check_length(&web, LONGEST - 1).unwrap();
        assert!(check_length(&web, LONGEST).is_err());
    }
}
