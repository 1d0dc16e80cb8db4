//! `delete-snapshot`: a snapshot less, and its layer too where that can be.
//!
//! The record goes first: from the beginning of a merge on, the layer shows nothing sensible by itself. A leaf is
//! deleted. A layer that exactly one other of the chain in use lies on is merged with that one: what the upper holds
//! goes down, and the upper goes. Until it is deleted it shows what it showed. If it is itself a snapshot's, the record
//! says beforehand that it is to become the lower one's; QEMU taking the upper out of the chain is what makes that true
//! (see [`Metadata::after_merges`]). So a merge may be interrupted anywhere, also between its end and its record; and where
//! QEMU died with nixvm, the next command undoes it (see [`undo_merge`](super::layers::undo_merge)).
//!
//! What cannot be merged stays as a link: what several layers lie on, and what is no part of the chain in use, for
//! libvirt has QEMU merge only what a machine has open.

use serde::Serialize;

use crate::config;
use crate::error::{Failure, Result};
use crate::hypervisor::{Merged, Owned};
use crate::journal::{Command, Intent};
use crate::model::record::{Metadata, Snapshot};
use crate::model::suggest::did_you_mean;
use crate::model::volume::{Role, VolumeStem};
use crate::model::{MachineName, SnapshotName};
use crate::storage::Pool;

use super::layers::{Layers, Merge};
use super::work::{Plan, Work};
use super::{Setup, Watch, deploy, files, nvram};

/// A snapshot that was deleted.
#[derive(Debug, Clone, Serialize)]
pub struct Deleted {
    /// The machine.
    pub machine: MachineName,
    /// The snapshot.
    pub snapshot: SnapshotName,
    /// The volumes that are gone.
    pub volumes: Vec<String>,
    /// Its layer's volume, where that had to stay because others lie on it.
    pub link: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Forget,
    Announce(Merge),
    Nvram(Merge, String),
    Merge(Merge),
    Record(Merge),
    Delete(String),
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Forget => "forget the snapshot".into(),
            Step::Announce(_) => "write down the merge that is to come".into(),
            Step::Nvram(..) => "copy the firmware's variables".into(),
            Step::Merge(merge) => format!("merge layer {} into layer {}", merge.top, merge.base),
            Step::Record(_) => "write down that the merge is done".into(),
            Step::Delete(volume) => format!("delete {volume}"),
        }
    }

    fn intent(&self) -> Option<Intent> {
        match self {
            Step::Forget => Some(Intent::Forget),
            Step::Merge(merge) => Some(Intent::Merge { base: merge.base, top: merge.top }),
            _ => None,
        }
    }

    fn volumes(&self) -> Vec<String> {
        match self {
            Step::Nvram(_, volume) | Step::Delete(volume) => vec![volume.clone()],
            Step::Forget | Step::Announce(_) | Step::Merge(_) | Step::Record(_) => Vec::new(),
        }
    }
}

/// Returns the steps that leave of the machine's layers what `after` needs, `gone` being the snapshot that it lacks.
fn plan(layers: &Layers, after: &Metadata, gone: Option<&Snapshot>) -> Vec<Step> {
    let stem = &layers.stem;
    let current = layers.numbers().first().copied().unwrap_or_default();
    let unused = gone.map(|gone| layers.unused_from(gone.layer, after, current)).unwrap_or_default();
    let mut steps = vec![Step::Forget];
    steps.extend(layers.merged.iter().cloned().map(Step::Delete));
    let delete = |role: Role| Step::Delete(role.of(stem));
    steps.extend(gone.filter(|gone| gone.nvram).map(|gone| delete(Role::FrozenNvram(gone.layer))));
    steps.extend(unused.iter().map(|layer| delete(Role::Data(*layer))));

    let mut snapshots = after.snapshots.clone();
    for merge in layers.merges(after, &unused) {
        let above = snapshots.iter_mut().find(|snapshot| snapshot.layer == merge.top);
        let nvram = above.is_some_and(|snapshot| {
            snapshot.layer = merge.base;
            snapshot.nvram
        });
        if merge.recorded {
            steps.push(Step::Announce(merge));
        }
        if nvram {
            steps.push(Step::Nvram(merge, Role::FrozenNvram(merge.base).of(stem)));
        }
        steps.push(Step::Merge(merge));
        if merge.recorded {
            steps.push(Step::Record(merge));
        }
        if nvram {
            steps.push(delete(Role::FrozenNvram(merge.top)));
        }
        steps.push(delete(Role::Data(merge.top)));
    }
    steps
}

/// Deletes a snapshot.
///
/// # Errors
/// There is none of that name, a chain is not whole, the pool has no space for a merge, or libvirt fails. What is left
/// then is whole, and the next deletion of a snapshot goes on with it.
pub fn delete_snapshot(
    setup: &Setup,
    name: &MachineName,
    snapshot: &SnapshotName,
    watch: &dyn Watch,
) -> Result<Deleted> {
    let command = Command::new("delete-snapshot", [name.as_str(), snapshot.as_str()]);
    let work = Work::begin_command(setup, name, command, watch)?;
    delete(&work, snapshot)
}

/// Does the same within work that has begun.
///
/// # Errors
/// As [`delete_snapshot`].
pub fn delete(work: &Work, name: &SnapshotName) -> Result<Deleted> {
    let (pool, mut domain) = (work.pool()?, work.domain()?);
    nvram::put_in_force(&pool, &domain)?;
    if domain.state()?.is_active() {
        domain.end_merge()?;
    }
    let layers = Layers::of(&pool, &domain)?;
    let gone = layers.metadata.snapshot(name).cloned();
    if gone.is_none() && work.resumed.is_none() {
        return Err(no_snapshot(&layers.metadata, name).into());
    }
    let mut after = layers.metadata.clone();
    after.snapshots.retain(|snapshot| snapshot.name != *name);

    work.watch.step(&format!("Deleting the snapshot {name} of {}", work.name));
    let left = carry_out(work, &pool, &mut domain, &layers, &mut after, gone.as_ref())?;
    let volumes = left.volumes;
    let link = gone.map(|gone| Role::Data(gone.layer).of(&layers.stem));
    let merged = |link: &String| left.merged.iter().any(|layer| Role::Data(*layer).of(&layers.stem) == *link);
    let link = link.filter(|link| !volumes.contains(link) && !merged(link));
    work.watch.done(&format!("Deleted the snapshot {name} of {}", work.name));
    match &link {
        Some(link) if left.denied => work.watch.note(&format!(
            "`{link}` stays until {0} is off: AppArmor lets no machine that runs merge its layers; the next `nixvm start {0}` does it",
            work.name
        )),
        Some(link) => work.watch.note(&format!("`{link}` stays as a link, for what lies on it")),
        None => {}
    }
    Ok(Deleted { machine: work.name.clone(), snapshot: name.clone(), volumes, link })
}

/// Merges the layers of a machine that is off which AppArmor did not let be merged while it ran, if there are any.
///
/// # Errors
/// A chain is not whole, the pool has no space, or libvirt fails. The layers are whole all the same.
pub fn merge_links(work: &Work, pool: &Pool, domain: &mut Owned) -> Result<()> {
    let layers = Layers::of(pool, domain)?;
    let mut after = layers.metadata.clone();
    if layers.merges(&after, &[]).is_empty() {
        return Ok(());
    }
    work.watch.step(&format!("Merging the layers of {} that no snapshot needs", work.name));
    let left = carry_out(work, pool, domain, &layers, &mut after, None)?;
    work.watch.done(&format!("Merged {} layers of {} that no snapshot needs", left.merged.len(), work.name));
    Ok(())
}

/// What a plan left.
#[derive(Default)]
struct Left {
    /// The volumes that are gone.
    volumes: Vec<String>,
    /// The layers into which others were merged.
    merged: Vec<u32>,
    /// Whether AppArmor did not let the machine merge, and the rest of the plan was not done.
    denied: bool,
}

fn carry_out(
    work: &Work,
    pool: &Pool,
    domain: &mut Owned,
    layers: &Layers,
    after: &mut Metadata,
    gone: Option<&Snapshot>,
) -> Result<Left> {
    let mut left = Left::default();
    work.carry_out(&plan(layers, after, gone), |step| match step {
        // What is behind a merge follows from it.
        _ if left.denied => Ok(()),
        Step::Forget => write(domain, after),
        Step::Announce(merge) => {
            for snapshot in after.snapshots.iter_mut().filter(|snapshot| snapshot.layer == merge.top) {
                snapshot.merging = Some(merge.base);
            }
            write(domain, after)
        }
        Step::Nvram(merge, _) => {
            nvram::copy(pool, &layers.stem, &Role::FrozenNvram(merge.top), &Role::FrozenNvram(merge.base))
        }
        Step::Merge(merge) => match self::merge(work, pool, domain, &layers.stem, *merge)? {
            Merged::Yes => {
                left.merged.push(merge.base);
                Ok(())
            }
            Merged::Denied => {
                left.denied = true;
                after.snapshots.iter_mut().for_each(|snapshot| snapshot.merging = None);
                write(domain, after)?;
                // Of no snapshot: the lower layer of a merge is none's.
                pool.delete(&Role::FrozenNvram(merge.base).of(&layers.stem)).map(drop)
            }
        },
        Step::Record(merge) => {
            let chain = Layers::of(pool, domain)?.numbers();
            if chain.contains(&merge.top) {
                return Err(Failure::bug(format!("layer {} was merged and is still there", merge.top)).into());
            }
            *after = after.after_merges(&chain);
            write(domain, after)
        }
        Step::Delete(volume) => {
            left.volumes.extend(pool.delete(volume)?.then(|| volume.clone()));
            Ok(())
        }
    })?;
    files::name_disks(&work.host, domain, work.watch)?;
    Ok(left)
}

/// Merges two layers of the machine's chain, of one that is off with QEMU and without its guest.
fn merge(work: &Work, pool: &Pool, domain: &Owned, stem: &VolumeStem, merge: Merge) -> Result<Merged> {
    let volume = |layer: u32| Role::Data(layer).of(stem);
    let bytes = pool.usage(&volume(merge.top))?.map_or(0, |usage| usage.allocation);
    pool.require_space(bytes, "a merge")?;
    let paused = match domain.state()?.is_active() {
        true => None,
        false => {
            // QEMU does not start without its network.
            let machine = config::load(&work.setup.workspace, &work.name)?;
            deploy::ensure_network(&work.host, &machine.network)?;
            Some(domain.paused()?)
        }
    };
    let folder = pool.path()?;
    let [base, top] = [merge.base, merge.top].map(|layer| format!("{folder}/{}", volume(layer)));
    let merged = domain.commit_data(&base, &top, &mut deploy::moved(work.watch))?;
    drop(paused);
    if merged == Merged::Denied {
        return Ok(merged);
    }
    // What the machine writes to now is what the merge left of the two; libvirt has changed the definition with it.
    match deploy::layer_of(domain)? {
        layer if layer == merge.top => {
            Err(Failure::bug(format!("the domain is still defined on layer {layer}, which was merged"))
                .into())
        }
        _ => Ok(merged),
    }
}

fn write(domain: &mut Owned, metadata: &Metadata) -> Result<()> {
    domain.set_metadata(metadata.clone())
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

#[cfg(test)]
mod tests {
    use super::super::layers::tests::layers;
    use super::*;

    fn steps(layers: &Layers, name: &str) -> Vec<Step> {
        let name: SnapshotName = name.parse().unwrap();
        let gone = layers.metadata.snapshot(&name);
        let mut after = layers.metadata.clone();
        after.snapshots.retain(|snapshot| snapshot.name != name);
        plan(layers, &after, gone)
    }

    fn delete(volume: &str) -> Step {
        Step::Delete(format!("web.{volume}"))
    }

    #[test]
    fn the_record_goes_first_and_a_merge_is_announced_before_it_begins() {
        let merge = Merge { base: 2, top: 3, recorded: true };
        assert_eq!(
            steps(&layers(&[4, 3, 2, 1], &[], &[("a", 1), ("b", 2), ("c", 3)]), "b"),
            [
                Step::Forget,
                delete("nvram-2.fd"),
                Step::Announce(merge),
                Step::Nvram(merge, "web.nvram-2.fd".into()),
                Step::Merge(merge),
                Step::Record(merge),
                delete("nvram-3.fd"),
                delete("data-3.qcow2"),
            ]
        );
        let last = Merge { base: 3, top: 4, recorded: false };
        assert_eq!(
            steps(&layers(&[4, 3, 2, 1], &[], &[("a", 1), ("b", 2), ("c", 3)]), "c"),
            [Step::Forget, delete("nvram-3.fd"), Step::Merge(last), delete("data-4.qcow2")]
        );
    }

    #[test]
    fn a_leaf_is_deleted_and_a_fork_stays() {
        let tree = layers(&[5, 2, 1], &[(4, 3), (3, 2)], &[("a", 1), ("b", 2), ("c", 4)]);
        assert_eq!(
            steps(&tree, "c"),
            [Step::Forget, delete("nvram-4.fd"), delete("data-4.qcow2"), delete("data-3.qcow2")]
        );
        assert_eq!(steps(&tree, "b"), [Step::Forget, delete("nvram-2.fd")]);
        // With the leaf the reason goes for which a link had to stay.
        let fork = layers(&[5, 2, 1], &[(4, 2)], &[("a", 1), ("c", 4)]);
        let merge = Merge { base: 2, top: 5, recorded: false };
        assert_eq!(
            steps(&fork, "c"),
            [
                Step::Forget,
                delete("nvram-4.fd"),
                delete("data-4.qcow2"),
                Step::Merge(merge),
                delete("data-5.qcow2")
            ]
        );
    }
}
