//! The layers of a machine's data: a tree of volumes, the machine writing to one of its leaves.
//!
//! Every snapshot names a layer; a layer that none names is a link, and is there because others lie on it. A merge takes
//! a link away: what the layer above holds goes down into the link, which from then on shows what that one showed.

use std::collections::{BTreeMap, BTreeSet};

use crate::disks::layer_of;
use crate::error::{Explain, Failure, Result};
use crate::host::Watch;
use crate::hypervisor::{Owned, Seen, is_own_checkpoint};
use crate::model::record::Metadata;
use crate::model::volume::{self, Role, VolumeStem};
use crate::storage::{Link, Pool};

/// Most volumes that a machine's data disk may lie on, itself among them: each is opened at every start, and what a guest
/// reads is looked for in one after another.
pub const LONGEST: usize = 32;

/// A machine's layers as they are in the pool.
#[derive(Debug)]
pub struct Layers {
    /// How the volumes' names begin.
    pub stem: VolumeStem,
    /// What the machine writes to, what that lies on, and so on.
    pub chain: Vec<Link>,
    /// What the machine records, merges that have ended taken into account.
    pub metadata: Metadata,
    /// Volumes of layers whose merge was interrupted after its end: no snapshot is in them any more, once `metadata` is what
    /// the machine records.
    pub merged: Vec<String>,
    /// Every volume of the pool that lies on another, and on which.
    backing: BTreeMap<String, String>,
}

/// Two neighbours of the chain in use, the lower of which no snapshot names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merge {
    /// The layer that stays.
    pub base: u32,
    /// The layer above, which shows the same as the other afterwards and is not needed any more.
    pub top: u32,
    /// Whether a snapshot names the upper one, and so the lower one afterwards.
    pub recorded: bool,
}

impl Layers {
    /// Returns the layers of a machine whose chain is whole.
    ///
    /// # Errors
    /// A volume of its chain is missing, foreign or lies on itself; libvirt does not answer.
    pub fn of(pool: &Pool, domain: &Seen) -> Result<Self> {
        let stem = domain.metadata().stem.clone();
        let chain = check_chain(pool, domain)?;
        let metadata = domain.metadata().after_merges(&numbers(&stem, &chain));
        let backing = pool.backing_of_all()?;
        let merged = merged(domain.metadata(), &metadata, &backing);
        Ok(Layers { chain, metadata, merged, backing, stem })
    }

    /// Returns the numbers of the chain's layers, that in use first.
    pub fn numbers(&self) -> Vec<u32> {
        numbers(&self.stem, &self.chain)
    }

    /// Returns the layers that a snapshot names.
    fn recorded(metadata: &Metadata) -> BTreeSet<u32> {
        metadata.snapshots.iter().map(|snapshot| snapshot.layer).collect()
    }

    /// Returns the merges that take every link out of the chain that can be, one after another, if `metadata` is what the
    /// machine records and the layers `gone` are deleted.
    ///
    /// A link stays that something lies on beside the chain: what QEMU does not have open it cannot tell of the merge.
    pub fn merges(&self, metadata: &Metadata, gone: &[u32]) -> Vec<Merge> {
        let mut recorded = Self::recorded(metadata);
        // Lowest first, so that nothing is copied twice.
        let mut chain = self.numbers();
        chain.reverse();
        let mut backing = self.backing.clone();
        for layer in gone {
            backing.remove(&Role::Data(*layer).of(&self.stem));
        }
        let mut merges = Vec::new();
        let mut at = 0;
        while let Some([base, top]) = chain.get(at..at + 2).and_then(|pair| <[u32; 2]>::try_from(pair).ok()) {
            let [base_volume, top_volume] = [base, top].map(|layer| Role::Data(layer).of(&self.stem));
            let above = chain.get(at + 2).map(|layer| Role::Data(*layer).of(&self.stem));
            let alone = |on: &str, by: Option<&String>| {
                backing.iter().filter(|(_, below)| *below == on).all(|(volume, _)| Some(volume) == by)
            };
            if recorded.contains(&base)
                || !alone(&base_volume, Some(&top_volume))
                || !alone(&top_volume, above.as_ref())
            {
                at += 1;
                continue;
            }
            merges.push(Merge { base, top, recorded: recorded.remove(&top) });
            if merges.last().is_some_and(|merge| merge.recorded) {
                recorded.insert(base);
            }
            chain.remove(at + 1);
            backing.remove(&top_volume);
            if let Some(above) = above {
                backing.insert(above, base_volume);
            }
        }
        merges
    }

    /// Returns `layer` and the layers below it that nothing needs if `metadata` is what the machine records and `current`
    /// what it writes to, uppermost first.
    pub fn unused_from(&self, layer: u32, metadata: &Metadata, current: u32) -> Vec<u32> {
        let recorded = Self::recorded(metadata);
        let mut unused = Vec::new();
        let mut gone = BTreeSet::new();
        let mut next = Some(layer);
        while let Some(layer) = next {
            let volume = Role::Data(layer).of(&self.stem);
            let needed =
                self.backing.iter().any(|(above, below)| *below == volume && !gone.contains(above.as_str()));
            if layer == current || recorded.contains(&layer) || needed {
                break;
            }
            next = self.backing.get(&volume).and_then(|below| self.number(below));
            unused.push(layer);
            gone.insert(volume);
        }
        unused
    }

    /// Returns how many volumes lie directly on that layer.
    pub fn lying_on(&self, layer: u32) -> usize {
        let volume = Role::Data(layer).of(&self.stem);
        self.backing.values().filter(|below| **below == volume).count()
    }

    fn number(&self, volume: &str) -> Option<u32> {
        number(&self.stem, volume)
    }
}

/// Returns the volumes that the machine's data disk lies on, itself first.
///
/// # Errors
/// One is missing, is outside the pool or lies on itself; libvirt does not answer.
pub fn check_chain(pool: &Pool, domain: &Seen) -> Result<Vec<Link>> {
    let stem = &domain.metadata().stem;
    let chain = pool.chain(&Role::Data(layer_of(domain)?).of(stem));
    let chain = chain.explain(|| {
        Failure::user(format!("the data disk of {} is not whole; nothing was changed", domain.name()))
            .hint("put the volume that is missing back into the pool, under the same name; `qemu-img info --backing-chain` shows what lies on what")
    })?;
    match chain.iter().find(|link| number(stem, &link.volume).is_none()) {
        None => Ok(chain),
        Some(link) => Err(Failure::user(format!(
            "the data disk of {} lies on `{}`, which is none of its volumes; nothing was changed",
            domain.name(),
            link.volume
        ))
        .hint("somebody changed it by hand; `qemu-img info --backing-chain` shows what lies on what")
        .into()),
    }
}

/// Undoes the merge of the layer `top` into the layer `base`, where QEMU did not survive it.
///
/// A layer below the one in use is taken out of the chain a little too early: QEMU writes into the header of the layer
/// above what that lies on from now on, and the tables of the lower layer, without which nothing of what it copied is
/// there, some 15 ms later (*measured* by strace with QEMU 7.2). A host that dies in between leaves a chain without
/// that data. But the layer that was to go still has it, and back in its place it shows what it showed, however much of
/// it was copied. As long as QEMU lives there is nothing to undo, for it goes on.
///
/// # Errors
/// libvirt does not answer.
pub fn undo_merge(pool: &Pool, domain: &Owned, base: u32, top: u32) -> Result<()> {
    if domain.state()?.is_active() {
        return Ok(());
    }
    let stem = &domain.metadata().stem;
    let backing = pool.backing_of_all()?;
    match taken_out(stem, layer_of(domain)?, &backing, (base, top)) {
        Some((above, top)) => pool.move_onto(above, top),
        None => Ok(()),
    }
}

/// Returns the volume of the layer that such a merge took out of the chain, behind that of the layer which lay on it.
fn taken_out<'a>(
    stem: &VolumeStem,
    in_use: u32,
    backing: &'a BTreeMap<String, String>,
    merge: (u32, u32),
) -> Option<(&'a str, &'a str)> {
    let mut above = Role::Data(in_use).of(stem);
    // One that lies on itself is told elsewhere.
    for _ in 0..=LONGEST {
        let (lying, base) = backing.get_key_value(&above)?;
        let beside = backing.iter().filter(|(volume, below)| *below == base && *volume != lying);
        let merged = |top: &str| Some((number(stem, base)?, number(stem, top)?) == merge);
        if let Some((top, _)) = beside.into_iter().find(|(top, _)| merged(top) == Some(true)) {
            return Some((lying, top));
        }
        above.clone_from(base);
    }
    None
}

/// Forgets the instants that nixvm's incremental backups begin at: a disk that was exchanged while off knows nothing of them.
///
/// Those of another tool stay; a command that would make them useless was refused before (see [`super::foreign`]).
///
/// # Errors
/// libvirt refuses.
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

/// Returns the volumes of the layers that a snapshot was in `before` and is no more.
fn merged(before: &Metadata, after: &Metadata, backing: &BTreeMap<String, String>) -> Vec<String> {
    let pairs = before.snapshots.iter().zip(&after.snapshots);
    let left = pairs.filter(|(before, after)| before.layer != after.layer).map(|(before, _)| before.layer);
    let roles = left.flat_map(|layer| [Role::Data(layer), Role::FrozenNvram(layer)]);
    let volumes = roles.map(|role| role.of(&before.stem));
    volumes.filter(|volume| !backing.values().any(|below| below == volume)).collect()
}

fn numbers(stem: &VolumeStem, chain: &[Link]) -> Vec<u32> {
    chain.iter().filter_map(|link| number(stem, &link.volume)).collect()
}

fn number(stem: &VolumeStem, volume: &str) -> Option<u32> {
    match volume::parse(volume) {
        Some((owner, Role::Data(layer))) if owner == *stem => Some(layer),
        _ => None,
    }
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
        let taken = |base, top| taken_out(&tree.stem, 5, &tree.backing, (base, top));
        assert_eq!(taken(2, 3), Some(("web.data-4.qcow2", "web.data-3.qcow2")));
        assert_eq!(taken(4, 7), Some(("web.data-5.qcow2", "web.data-7.qcow2")));
        // It is in the chain, or it is not there, or it lies on another.
        for (base, top) in [(2, 4), (2, 8), (1, 3), (4, 6)] {
            assert_eq!(taken(base, top), None, "{top} into {base}");
        }
        let circle = layers(&[2, 1, 2], &[], &[]);
        assert_eq!(taken_out(&circle.stem, 2, &circle.backing, (1, 3)), None);
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
