//! The layers of a machine's data: a tree of volumes, of which the machine writes to one leaf.
//!
//! Every snapshot names a layer. A layer that no snapshot names is a link: it exists only because others lie on it. A merge
//! removes a link: the contents of the layer above go down into the link, which then shows what that layer showed.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Explain, Failure, Result};
use crate::host::Watch;
use crate::hypervisor::{Owned, Seen, is_own_checkpoint};
use crate::model::record::{Metadata, Snapshot};
use crate::model::volume::{Role, VolumeStem};
use crate::model::{SnapshotName, Timestamp};
use crate::storage::{Link, Pool};

use super::data::{data_volume, layer_number};

/// Longest chain of a data disk, in volumes: every start opens all of them, and a read searches them one after another.
pub const LONGEST: usize = 32;

/// A machine's layers as they are in the pool.
#[derive(Debug)]
pub struct Layers {
    pub stem: VolumeStem,
    /// The layer that the machine writes to, the one that it lies on, and so on.
    pub chain: Vec<Link>,
    /// The machine's record, updated for the merges that have ended.
    pub metadata: Metadata,
    /// Volumes of merged layers that were not deleted yet: no snapshot needs them once `metadata` is recorded.
    pub merged: Vec<String>,
    /// Every volume of the pool that lies on another, with the one below it.
    backing: BTreeMap<String, String>,
}

/// The merge of two neighbours of the chain in use, the lower of which no snapshot names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merge {
    pub base: u32,
    /// The layer above, which is not needed any more afterwards.
    pub top: u32,
    /// Whether a snapshot names `top`, and so `base` afterwards.
    pub recorded: bool,
}

impl Layers {
    /// Returns the layers of a machine; an error if its chain is not whole.
    pub fn of(pool: &Pool, domain: &Seen) -> Result<Self> {
        let stem = domain.metadata().stem.clone();
        let chain = check_chain(pool, domain)?;
        let metadata = domain.metadata().after_merges(&numbers(&stem, &chain));
        let backing = pool.backing_of_all()?;
        let merged = merged(domain.metadata(), &metadata, &backing);
        Ok(Layers { chain, metadata, merged, backing, stem })
    }

    /// Returns the numbers of the chain's layers, the one in use first.
    pub fn numbers(&self) -> Vec<u32> {
        numbers(&self.stem, &self.chain)
    }

    /// Returns the record of a snapshot of the layer in use, as it is now.
    pub fn snapshot(&self, name: SnapshotName, layer: u32, nvram: bool) -> Snapshot {
        Snapshot {
            name,
            taken: Timestamp::now().unix(),
            layer,
            merging: None,
            nvram,
            generation: self.metadata.current().number,
            consistent: true,
        }
    }

    fn recorded(metadata: &Metadata) -> BTreeSet<u32> {
        metadata.snapshots.iter().map(|snapshot| snapshot.layer).collect()
    }

    fn volume(&self, layer: u32) -> String {
        Role::Data(layer).of(&self.stem)
    }

    /// Returns the merges that remove every removable link, in order, if `metadata` is recorded and the layers `gone` are deleted.
    ///
    /// A link stays if a volume outside the chain lies on it: QEMU does not have that volume open and could not adapt it.
    pub fn merges(&self, metadata: &Metadata, gone: &[u32]) -> Vec<Merge> {
        let mut recorded = Self::recorded(metadata);
        // Lowest first, so that nothing is copied twice.
        let mut chain = self.numbers();
        chain.reverse();
        let mut backing = self.backing.clone();
        for layer in gone {
            backing.remove(&self.volume(*layer));
        }
        let mut merges = Vec::new();
        let mut at = 0;
        while let Some(&[base, top]) = chain.get(at..at + 2) {
            let (base_volume, top_volume) = (self.volume(base), self.volume(top));
            let above = chain.get(at + 2).map(|layer| self.volume(*layer));
            let only = |child: Option<&String>, on: &str| {
                backing.iter().filter(|(_, below)| *below == on).all(|(volume, _)| Some(volume) == child)
            };
            let is_link = !recorded.contains(&base);
            if !is_link || !only(Some(&top_volume), &base_volume) || !only(above.as_ref(), &top_volume) {
                at += 1;
                continue;
            }
            let merge = Merge { base, top, recorded: recorded.remove(&top) };
            if merge.recorded {
                recorded.insert(base);
            }
            merges.push(merge);
            chain.remove(at + 1);
            backing.remove(&top_volume);
            if let Some(above) = above {
                backing.insert(above, base_volume);
            }
        }
        merges
    }

    /// Returns `layer` and those below it that nothing needs, topmost first, if `metadata` is recorded and `current` is in use.
    pub fn unused_from(&self, layer: u32, metadata: &Metadata, current: u32) -> Vec<u32> {
        let recorded = Self::recorded(metadata);
        let mut unused = Vec::new();
        let mut gone = BTreeSet::new();
        let mut next = Some(layer);
        while let Some(layer) = next {
            let volume = self.volume(layer);
            let needed =
                self.backing.iter().any(|(above, below)| *below == volume && !gone.contains(above.as_str()));
            if layer == current || recorded.contains(&layer) || needed {
                break;
            }
            next = self.backing.get(&volume).and_then(|below| layer_number(&self.stem, below));
            unused.push(layer);
            gone.insert(volume);
        }
        unused
    }

    /// Returns how many volumes lie directly on that layer.
    pub fn children(&self, layer: u32) -> usize {
        let volume = self.volume(layer);
        self.backing.values().filter(|below| **below == volume).count()
    }
}

/// Returns the chain of the machine's data disk, the volume in use first; an error if it has a gap or a foreign volume.
pub fn check_chain(pool: &Pool, domain: &Seen) -> Result<Vec<Link>> {
    let name = domain.name();
    let chain = pool.chain(&data_volume(domain)?).explain(|| {
        Failure::user(format!("the data disk of {name} is not whole; nothing was changed"))
            .hint("put the missing volume back into the pool, under the same name; `qemu-img info --backing-chain` shows which volume lies on which")
    })?;
    let stem = &domain.metadata().stem;
    let Some(link) = chain.iter().find(|link| layer_number(stem, &link.volume).is_none()) else {
        return Ok(chain);
    };
    Err(Failure::user(format!(
        "the data disk of {name} lies on `{}`, which is none of its volumes; nothing was changed",
        link.volume
    ))
    .hint("somebody changed it by hand; `qemu-img info --backing-chain` shows which volume lies on which")
    .into())
}

/// Undoes the merge of the layer `top` into the layer `base`, where QEMU died during it.
///
/// QEMU takes a layer below the one in use out of the chain a little too early: it rewrites the header of the layer above to
/// name the lower layer, and only some 15 ms later (*measured* by strace with QEMU 7.2) writes the tables of the lower layer,
/// without which none of the copied data is there. A host that dies in between leaves a chain without that data. But the layer
/// that was to be removed still has it, and back in its place it shows what it showed, however much of it was copied. While QEMU
/// lives there is nothing to undo, because it continues.
pub fn undo_merge(pool: &Pool, domain: &Owned, base: u32, top: u32) -> Result<()> {
    if domain.state()?.is_active() {
        return Ok(());
    }
    let backing = pool.backing_of_all()?;
    match taken_out(&domain.metadata().stem, data_volume(domain)?, &backing, (base, top)) {
        Some((above, top)) => pool.move_onto(above, top),
        None => Ok(()),
    }
}

/// Returns the volume of `top` that such a merge took out of the chain below `volume`, after the volume that lay on it.
fn taken_out<'a>(
    stem: &VolumeStem,
    mut volume: String,
    backing: &'a BTreeMap<String, String>,
    merge: (u32, u32),
) -> Option<(&'a str, &'a str)> {
    // A limit, in case a volume lies on itself, which is reported elsewhere.
    for _ in 0..=LONGEST {
        let (above, base) = backing.get_key_value(&volume)?;
        let is = |volume: &str, layer: u32| layer_number(stem, volume) == Some(layer);
        let mut beside = backing.iter().filter(|(volume, below)| *below == base && *volume != above);
        if let Some((top, _)) = beside.find(|(top, _)| is(base, merge.0) && is(top, merge.1)) {
            return Some((above, top));
        }
        volume.clone_from(base);
    }
    None
}

/// Deletes libvirt's record of nixvm's checkpoints, which a disk that was exchanged while the machine was off does not have.
/// Checkpoints of another tool stay; [`super::foreign`] has refused a command that would make them useless.
pub fn forget_checkpoints(domain: &Owned, watch: &dyn Watch) -> Result<()> {
    let mut checkpoints = domain.checkpoints()?;
    checkpoints.retain(|checkpoint| is_own_checkpoint(checkpoint));
    for checkpoint in &checkpoints {
        domain.forget_checkpoint(checkpoint)?;
    }
    if !checkpoints.is_empty() {
        watch.note("the next incremental backup will be a full one");
    }
    Ok(())
}

/// Returns the volumes of the layers that snapshots were in according to `before` and no longer are, if nothing lies on them.
fn merged(before: &Metadata, after: &Metadata, backing: &BTreeMap<String, String>) -> Vec<String> {
    let pairs = before.snapshots.iter().zip(&after.snapshots);
    let left = pairs.filter(|(before, after)| before.layer != after.layer).map(|(before, _)| before.layer);
    let roles = left.flat_map(|layer| [Role::Data(layer), Role::FrozenNvram(layer)]);
    let volumes = roles.map(|role| role.of(&before.stem));
    volumes.filter(|volume| !backing.values().any(|below| below == volume)).collect()
}

fn numbers(stem: &VolumeStem, chain: &[Link]) -> Vec<u32> {
    chain.iter().filter_map(|link| layer_number(stem, &link.volume)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::record::Generations;
    use crate::model::record::tests::{build, snapshot};

    /// Returns layers that lie on each other as told, the chain in use beginning with the first of `chain`.
    pub(crate) fn layers(chain: &[u32], beside: &[(u32, u32)], snapshots: &[(&str, u32)]) -> Layers {
        let stem: VolumeStem = "web".parse().unwrap();
        let volume = |layer: u32| Role::Data(layer).of(&stem);
        let pairs = chain.windows(2).map(|pair| (pair[0], pair[1])).chain(beside.iter().copied());
        Layers {
            backing: pairs.map(|(above, below)| (volume(above), volume(below))).collect(),
            chain: chain
                .iter()
                .map(|layer| Link { volume: volume(*layer), capacity: 1 << 30, allocation: 1 << 20 })
                .collect(),
            metadata: Metadata {
                machine: "web".parse().unwrap(),
                workspace: "/w".into(),
                stem: stem.clone(),
                ssh_port: None,
                generations: Generations::first(build(1)),
                snapshots: snapshots.iter().map(|(name, layer)| snapshot(name, *layer)).collect(),
            },
            merged: Vec::new(),
            stem,
        }
    }

    fn merges(layers: &Layers) -> Vec<(u32, u32, bool)> {
        layers.merges(&layers.metadata, &[]).iter().map(|m| (m.base, m.top, m.recorded)).collect()
    }

    #[test]
    fn links_that_only_the_chain_lies_on_are_merged() {
        assert_eq!(merges(&layers(&[3, 2, 1], &[], &[("a", 1), ("b", 2)])), []);
        assert_eq!(merges(&layers(&[3, 2, 1], &[], &[("b", 2)])), [(1, 2, true)]);
        assert_eq!(merges(&layers(&[3, 2, 1], &[], &[("a", 1)])), [(2, 3, false)]);
        // One link after another, lowest first.
        assert_eq!(
            merges(&layers(&[5, 4, 3, 2, 1], &[], &[("c", 4)])),
            [(1, 2, false), (1, 3, false), (1, 4, true)]
        );
        assert_eq!(merges(&layers(&[3, 2, 1], &[], &[])), [(1, 2, false), (1, 3, false)]);
    }

    #[test]
    fn what_something_else_lies_on_is_not_touched() {
        // 9 lies on the link itself, or on the layer that would be merged away.
        assert_eq!(merges(&layers(&[3, 2, 1], &[(9, 1)], &[("b", 2)])), []);
        assert_eq!(merges(&layers(&[3, 2, 1], &[(9, 2)], &[("b", 2)])), []);
        assert_eq!(merges(&layers(&[3, 2, 1], &[(9, 3)], &[("a", 1)])), []);
        assert_eq!(merges(&layers(&[4, 3, 2, 1], &[(9, 3)], &[("b", 2)])), [(1, 2, true)]);
        let fork = layers(&[3, 2, 1], &[(9, 1)], &[("b", 2)]);
        assert_eq!(fork.merges(&fork.metadata, &[9]), [Merge { base: 1, top: 2, recorded: true }]);
    }

    #[test]
    fn what_a_merge_left_that_was_interrupted_after_its_end_is_known() {
        let mut metadata = layers(&[4, 3, 2, 1], &[], &[("a", 1), ("c", 3)]).metadata;
        metadata.snapshots[1].merging = Some(2);
        let left = |chain: &[u32]| merged(&metadata, &metadata.after_merges(chain), &BTreeMap::new());
        assert_eq!(left(&[4, 3, 2, 1]), [""; 0]);
        assert_eq!(left(&[4, 2, 1]), ["web.data-3.qcow2", "web.nvram-3.fd"]);
    }

    #[test]
    fn what_a_merge_took_out_that_its_host_did_not_survive_is_known() {
        let tree = layers(&[5, 4, 2, 1], &[(3, 2), (6, 2), (7, 4)], &[]);
        let taken = |base, top| taken_out(&tree.stem, tree.volume(5), &tree.backing, (base, top));
        assert_eq!(taken(2, 3), Some(("web.data-4.qcow2", "web.data-3.qcow2")));
        assert_eq!(taken(4, 7), Some(("web.data-5.qcow2", "web.data-7.qcow2")));
        // It is in the chain, or it is not there, or it lies on another.
        for (base, top) in [(2, 4), (2, 8), (1, 3), (4, 6)] {
            assert_eq!(taken(base, top), None, "{top} into {base}");
        }
        let circle = layers(&[2, 1, 2], &[], &[]);
        assert_eq!(taken_out(&circle.stem, circle.volume(2), &circle.backing, (1, 3)), None);
    }

    #[test]
    fn a_leaf_goes_with_the_links_that_only_it_needed() {
        let tree = layers(&[5, 1], &[(4, 3), (3, 2), (2, 1)], &[("a", 1)]);
        assert_eq!(tree.unused_from(4, &tree.metadata, 5), [4, 3, 2]);
        assert_eq!(tree.unused_from(3, &tree.metadata, 5), [0_u32; 0], "4 lies on it");
        assert_eq!(tree.unused_from(5, &tree.metadata, 5), [0_u32; 0], "it is in use");
        assert_eq!(tree.unused_from(5, &tree.metadata, 4), [5]);
        let named = layers(&[5, 1], &[(4, 3), (3, 2), (2, 1)], &[("a", 1), ("b", 3)]);
        assert_eq!(named.unused_from(4, &named.metadata, 5), [4]);
    }
}
