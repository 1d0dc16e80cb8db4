//! A snapshot is deleted, and layers that no snapshot needs any more are merged.
//!
//! The record goes first, because a layer shows nothing sensible by itself once a merge into it has begun. A leaf is deleted.
//! A layer that exactly one other of the chain in use lies on is merged with that one: the contents of the upper go down, and
//! the upper goes. Until it is deleted it shows what it always showed. If the upper layer is a snapshot's own, the record says
//! beforehand that it will become the lower one's, and QEMU makes that true when it takes the upper out of the chain (see
//! [`Metadata::after_merges`]). So a merge may be interrupted anywhere, even between its end and its record; and where
//! QEMU died together with nixvm, the next command undoes it (see [`undo_merge`](crate::disks::layers::undo_merge)).
//!
//! A layer stays as a link where several layers lie on it, or where it is not part of the chain in use: libvirt has QEMU
//! merge only layers that a machine has open.

use serde::Serialize;

use crate::config;
use crate::disks::layers::{Layers, Merge};
use crate::disks::{files, layer_of, nvram};
use crate::error::{Failure, Result};
use crate::host::{ensure_network, moved};
use crate::hypervisor::{Merged, Owned};
use crate::journal::Intent;
use crate::model::record::{Metadata, Snapshot};
use crate::model::volume::{Role, VolumeStem};
use crate::model::{MachineName, SnapshotName};
use crate::storage::Pool;
use crate::work::known::no_snapshot;
use crate::work::{Plan, Work};

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

/// Returns the steps that leave only the layers that `after` needs; `gone` is the snapshot that it lacks.
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
/// After an error the layers are whole, and the next deletion of a snapshot continues.
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
            "`{link}` stays for now: AppArmor forbids merging the layers of a running machine; the next `nixvm start {0}` from off merges them",
            work.name
        )),
        Some(link) => work.watch.note(&format!("`{link}` stays, because other layers lie on it")),
        None => {}
    }
    Ok(Deleted { machine: work.name.clone(), snapshot: name.clone(), volumes, link })
}

/// Merges the layers that AppArmor did not allow to be merged while the machine ran. The layers are whole after an error, too.
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

/// What became of a plan.
#[derive(Default)]
struct Left {
    /// The volumes that are gone.
    volumes: Vec<String>,
    /// The layers into which others were merged.
    merged: Vec<u32>,
    /// Whether AppArmor forbade a merge: the rest of the plan was not done then.
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
        // The steps behind a merge depend on it.
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
                // No snapshot has the lower layer of a merge.
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

/// Merges two layers of the chain; a machine that is off gets a QEMU without a running guest for it.
fn merge(work: &Work, pool: &Pool, domain: &Owned, stem: &VolumeStem, merge: Merge) -> Result<Merged> {
    let volume = |layer: u32| Role::Data(layer).of(stem);
    let bytes = pool.usage(&volume(merge.top))?.map_or(0, |usage| usage.allocation);
    pool.require_space(bytes, "a merge")?;
    let paused = if domain.state()?.is_active() {
        None
    } else {
        // QEMU does not start without its network.
        let machine = config::load(&work.setup.workspace, &work.name)?;
        ensure_network(&work.host, &machine.network)?;
        Some(domain.paused()?)
    };
    let folder = pool.path()?;
    let [base, top] = [merge.base, merge.top].map(|layer| format!("{folder}/{}", volume(layer)));
    let merged = domain.commit_data(&base, &top, &mut moved(work.watch))?;
    drop(paused);
    if merged == Merged::Denied {
        return Ok(merged);
    }
    // libvirt has changed the definition together with the chain.
    if layer_of(domain)? == merge.top {
        let still = format!("the domain is still defined on layer {}, which was merged", merge.top);
        return Err(Failure::bug(still).into());
    }
    Ok(merged)
}

fn write(domain: &mut Owned, metadata: &Metadata) -> Result<()> {
    domain.set_metadata(metadata.clone())
}

/// The result of `delete-snapshot`.
#[derive(Debug, Clone, Serialize)]
pub struct Deleted {
    pub machine: MachineName,
    pub snapshot: SnapshotName,
    /// The volumes that are gone.
    pub volumes: Vec<String>,
    /// The volume of its layer, where that had to stay.
    pub link: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::layers::tests::layers;

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
