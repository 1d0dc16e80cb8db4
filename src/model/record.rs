//! The metadata by which a domain is nixvm's: its machine, its builds, its snapshots.
//!
//! They are part of the domain's definition. So they are where the machine is, on a remote host too, and change together
//! with the disks in the definition: libvirt replaces a definition as a whole.

use serde::Serialize;

use super::volume::VolumeStem;
use super::{Generation, MachineName, Observation, ProfileName, SnapshotName};

pub const METADATA_NAMESPACE: &str = "urn:nixvm:domain:1";

/// The namespace of the element with the values that nixvm defined a domain with.
pub const DEFINED_NAMESPACE: &str = "urn:nixvm:defined:1";

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metadata {
    pub machine: MachineName,
    /// The absolute path of the workspace.
    pub workspace: String,
    pub stem: VolumeStem,
    /// The port on the host's loopback that leads to the guest's ssh; on QEMU's user network only.
    pub ssh_port: Option<u16>,
    pub generations: Generations,
    /// The oldest first.
    pub snapshots: Vec<Snapshot>,
}

impl Metadata {
    pub fn current(&self) -> &Build {
        self.generations.current()
    }

    /// Returns the metadata with each begun merge resolved: finished or not.
    ///
    /// `chain` are the layer in use and those below it; a layer that was merged away is not among them.
    #[must_use]
    pub fn after_merges(&self, chain: &[u32]) -> Self {
        let mut after = self.clone();
        for snapshot in &mut after.snapshots {
            if let Some(below) = snapshot.merging.take()
                && !chain.contains(&snapshot.layer)
            {
                snapshot.layer = below;
            }
        }
        after
    }

    pub fn snapshot(&self, name: &SnapshotName) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.name == *name)
    }
}

/// A build of a machine that was put into the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Build {
    /// Counted from 1 over the machine's life.
    pub number: u32,
    pub profile: ProfileName,
    /// SHA-256 of everything it was made from, in hexadecimal.
    pub digest: String,
    /// The digest of other files that give the same system, as the last upgrade found.
    pub also: Option<String>,
    /// SHA-256 of the system itself, whatever files it was made from; `None` where an older nixvm made it.
    pub fingerprint: Option<String>,
    /// The volume of the base image below its boot volume.
    pub base: String,
    /// When it was uploaded, in seconds since 1970.
    pub made: u64,
    pub health: BuildHealth,
    pub nixpkgs: String,
    pub kernel: String,
    /// The machine when it was last seen well with this build: a return to the build is judged by it.
    pub seen: Option<Observation>,
}

impl Build {
    pub fn generation(&self) -> Generation {
        Generation { number: self.number, digest: self.digest.clone() }
    }

    pub fn is_made_from(&self, digest: &str) -> bool {
        self.digest == digest || self.also.as_deref() == Some(digest)
    }
}

/// The result of a build's last boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildHealth {
    Untried,
    Healthy,
    /// An upgrade went back from it.
    Unhealthy,
}

impl BuildHealth {
    /// The word in the metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            BuildHealth::Untried => "untried",
            BuildHealth::Healthy => "healthy",
            BuildHealth::Unhealthy => "unhealthy",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        [BuildHealth::Untried, BuildHealth::Healthy, BuildHealth::Unhealthy]
            .into_iter()
            .find(|health| health.as_str() == word)
    }
}

impl std::fmt::Display for BuildHealth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The builds of a machine, the current one always among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Generations {
    current: u32,
    /// By number, ascending; never empty.
    all: Vec<Build>,
}

impl Generations {
    pub fn first(build: Build) -> Self {
        Generations { current: build.number, all: vec![build] }
    }

    /// Returns `None` if the number `current` is missing, or a number stands twice.
    pub fn new(current: u32, mut all: Vec<Build>) -> Option<Self> {
        all.sort_by_key(|build| build.number);
        let twice = all.windows(2).any(|pair| pair[0].number == pair[1].number);
        (!twice && all.iter().any(|build| build.number == current)).then_some(Generations { current, all })
    }

    /// Returns the build that the domain is defined on.
    pub fn current(&self) -> &Build {
        // `new` has checked that it is there; if not, the first build does the least harm.
        self.get(self.current).unwrap_or(&self.all[0])
    }

    pub fn get(&self, number: u32) -> Option<&Build> {
        self.all.iter().find(|build| build.number == number)
    }

    /// Returns the latest build that files with that digest give.
    pub fn with_digest(&self, digest: &str) -> Option<&Build> {
        self.all.iter().rev().find(|build| build.is_made_from(digest))
    }

    pub fn all(&self) -> &[Build] {
        &self.all
    }

    pub fn next(&self) -> u32 {
        self.all.last().map_or(1, |build| build.number + 1)
    }

    /// Returns the target of a rollback: the latest build before `number` that is not known to be unhealthy.
    pub fn before(&self, number: u32) -> Option<&Build> {
        self.all.iter().rev().find(|build| build.number < number && build.health != BuildHealth::Unhealthy)
    }

    /// Adds `build`, or replaces the one of its number, and makes it current.
    #[must_use]
    pub fn with(&self, build: Build) -> Self {
        let current = build.number;
        let mut all: Vec<Build> = self.all.iter().filter(|b| b.number != current).cloned().collect();
        all.push(build);
        all.sort_by_key(|build| build.number);
        Generations { current, all }
    }

    /// Makes a build current and untried. A build that exists already keeps its record: the volumes under its number were
    /// made then.
    #[must_use]
    pub fn with_untried(&self, build: Build) -> Self {
        let known = self.get(build.number).filter(|known| known.digest == build.digest).cloned();
        self.with(Build { health: BuildHealth::Untried, ..known.unwrap_or(build) })
    }

    /// Makes a build current; changes nothing if there is none of that number.
    #[must_use]
    pub fn at(&self, number: u32) -> Self {
        let current = self.get(number).map_or(self.current, |build| build.number);
        Generations { current, all: self.all.clone() }
    }

    #[must_use]
    pub fn judged(&self, number: u32, health: BuildHealth) -> Self {
        self.changed(number, |build| build.health = health)
    }

    /// Records an observation of a build that is well.
    #[must_use]
    pub fn seen(&self, number: u32, seen: &Observation) -> Self {
        self.changed(number, |build| build.seen = Some(seen.clone()))
    }

    /// Records the digest of other files that give the same system.
    #[must_use]
    pub fn also_from(&self, number: u32, digest: &str) -> Self {
        self.changed(number, |build| build.also = Some(digest.to_owned()))
    }

    fn changed(&self, number: u32, change: impl Fn(&mut Build)) -> Self {
        let mut changed = self.clone();
        changed.all.iter_mut().filter(|build| build.number == number).for_each(change);
        changed
    }

    /// Drops the builds that `keep` refuses, but never the current one.
    #[must_use]
    pub fn retain(&self, keep: impl Fn(&Build) -> bool) -> Self {
        let stays = |build: &&Build| build.number == self.current || keep(build);
        Generations { current: self.current, all: self.all.iter().filter(stays).cloned().collect() }
    }
}

/// A point to which a machine can return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    pub name: SnapshotName,
    /// In seconds since 1970.
    pub taken: u64,
    /// The layer of data that it froze.
    pub layer: u32,
    /// The layer below, set from before `layer` is merged into it until the merge is recorded. Once `layer` is missing from
    /// the chain in use, this layer is the snapshot's.
    pub merging: Option<u32>,
    /// Whether the firmware's variables were kept too.
    pub nvram: bool,
    pub generation: u32,
    /// Whether the guest was off, or frozen through its agent, so that nothing was half written.
    pub consistent: bool,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn build(number: u32) -> Build {
        Build {
            number,
            profile: ProfileName::default(),
            digest: "d".repeat(64),
            also: None,
            fingerprint: None,
            base: format!("nixvm-base-{}.qcow2", "a".repeat(32)),
            made: 1_795_392_576,
            health: BuildHealth::Healthy,
            nixpkgs: "8eeec".into(),
            kernel: "6.12.1".into(),
            seen: None,
        }
    }

    pub(crate) fn snapshot(name: &str, layer: u32) -> Snapshot {
        let name = name.parse().unwrap();
        Snapshot {
            name,
            taken: 1_795_392_577,
            layer,
            merging: None,
            nvram: true,
            generation: 1,
            consistent: true,
        }
    }

    #[test]
    fn the_current_build_is_always_there() {
        assert_eq!(Generations::new(2, vec![build(1)]), None);
        assert_eq!(Generations::new(1, vec![build(1), build(1)]), None);
        let two = Generations::first(build(1)).with(build(2));
        assert_eq!((two.current().number, two.next()), (2, 3));
        assert_eq!(two.at(1).current().number, 1);
        assert_eq!(two.at(7), two);
        assert_eq!(two.retain(|_| false).all(), [build(2)]);
    }

    #[test]
    fn a_generation_that_is_tried_again_is_untried() {
        let known = Generations::first(build(1)).with(build(2)).judged(2, BuildHealth::Unhealthy).at(1);
        let again = Build { made: 7, base: "another".into(), ..build(2) };
        let tried = known.with_untried(again);
        assert_eq!(*tried.current(), Build { health: BuildHealth::Untried, ..build(2) });
    }

    #[test]
    fn a_build_is_found_by_either_digest() {
        let two = Generations::first(build(1)).with(Build { digest: "e".repeat(64), ..build(2) });
        let also = two.also_from(1, "other");
        assert_eq!(also.with_digest("other").map(|b| b.number), Some(1));
        assert_eq!(also.with_digest(&"d".repeat(64)).map(|b| b.number), Some(1));
        assert_eq!(two.with_digest("other"), None);
    }

    #[test]
    fn a_merge_has_ended_when_its_layer_is_gone_from_the_chain() {
        let merging = Snapshot { merging: Some(2), ..snapshot("b", 3) };
        let metadata = Metadata {
            machine: "web".parse().unwrap(),
            workspace: "/w".into(),
            stem: "web".parse().unwrap(),
            ssh_port: None,
            generations: Generations::first(build(1)),
            snapshots: vec![snapshot("a", 1), merging],
        };
        let layers = |chain: &[u32]| {
            let after = metadata.after_merges(chain);
            assert!(after.snapshots.iter().all(|snapshot| snapshot.merging.is_none()));
            after.snapshots.iter().map(|snapshot| snapshot.layer).collect::<Vec<_>>()
        };
        assert_eq!(layers(&[4, 3, 2, 1]), [1, 3]);
        assert_eq!(layers(&[4, 2, 1]), [1, 2]);
    }

    #[test]
    fn a_rollback_passes_over_what_was_unhealthy() {
        let all = Generations::new(3, vec![build(3), build(1), build(2)]).unwrap();
        assert_eq!(all.before(3).map(|b| b.number), Some(2));
        let judged = all.judged(2, BuildHealth::Unhealthy);
        assert_eq!(judged.before(3).map(|b| b.number), Some(1));
        assert_eq!(judged.before(1), None);
    }
}
