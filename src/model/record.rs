//! What a domain carries to say that it is nixvm's: which machine, which builds of it, which snapshots.
//!
//! It lives in the domain's own definition, so it is where the machine is, on a remote host too, and it changes
//! together with the disks that the domain is defined on: libvirt replaces a definition whole.

use serde::Serialize;

use super::volume::VolumeStem;
use super::{Generation, MachineName, Observation, ProfileName, SnapshotName};

/// The namespace of nixvm's element in a domain's metadata.
pub const METADATA_NAMESPACE: &str = "urn:nixvm:domain:1";

/// The namespace of the element that says what nixvm defined a domain with.
pub const DEFINED_NAMESPACE: &str = "urn:nixvm:defined:1";

/// What a domain carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// The machine.
    pub machine: MachineName,
    /// The absolute path of the workspace that declares the machine.
    pub workspace: String,
    /// How its volumes' names begin.
    pub stem: VolumeStem,
    /// The port of the host's loopback that leads to the guest's ssh; on QEMU's user network only.
    pub ssh_port: Option<u16>,
    /// Its builds.
    pub generations: Generations,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<Snapshot>,
}

impl Metadata {
    /// Returns the build that the domain is defined on.
    pub fn current(&self) -> &Build {
        self.generations.current()
    }

    /// Returns what holds of the snapshots once the merges that were begun are known to have ended or not.
    ///
    /// `chain` are the layers below the one in use, and that itself: a layer that was merged away is not among them.
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

    /// Returns the snapshot of that name.
    pub fn snapshot(&self, name: &SnapshotName) -> Option<&Snapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.name == *name)
    }
}

/// A build of a machine that was put into the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Build {
    /// Counted from 1 over the machine's life.
    pub number: u32,
    /// The profile it was made from.
    pub profile: ProfileName,
    /// SHA-256 of everything it was made from, in hexadecimal.
    pub digest: String,
    /// The digest of other files that give the same system, as an upgrade found out last.
    pub also: Option<String>,
    /// SHA-256 of what makes its system, whatever the files say that it is made from; `None` where an older nixvm made it.
    pub fingerprint: Option<String>,
    /// The volume of the base image that its boot volume lies on.
    pub base: String,
    /// When it was put into the pool, in seconds since 1970.
    pub made: u64,
    /// How it came up.
    pub health: BuildHealth,
    /// The nixpkgs it was built from.
    pub nixpkgs: String,
    /// The kernel's version.
    pub kernel: String,
    /// How the machine was with it when it was well and looked at last: what a return to it is measured by.
    pub seen: Option<Observation>,
}

impl Build {
    /// Returns its number, and the digest that its image has.
    pub fn generation(&self) -> Generation {
        Generation { number: self.number, digest: self.digest.clone() }
    }

    /// Returns whether files with that digest give this build.
    pub fn is_made_from(&self, digest: &str) -> bool {
        self.digest == digest || self.also.as_deref() == Some(digest)
    }
}

/// How a build came up when it was booted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildHealth {
    /// Nobody has looked yet.
    Untried,
    /// As well as the one before it.
    Healthy,
    /// Not as well; an upgrade went back from it.
    Unhealthy,
}

impl BuildHealth {
    /// Returns the word that stands for it in the metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            BuildHealth::Untried => "untried",
            BuildHealth::Healthy => "healthy",
            BuildHealth::Unhealthy => "unhealthy",
        }
    }

    /// Returns the health that the word stands for.
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
    /// Returns a machine's first build.
    pub fn first(build: Build) -> Self {
        Generations { current: build.number, all: vec![build] }
    }

    /// Returns these builds; `None` if the number `current` is not among them, or one is there twice.
    pub fn new(current: u32, mut all: Vec<Build>) -> Option<Self> {
        all.sort_by_key(|build| build.number);
        let twice = all.windows(2).any(|pair| pair[0].number == pair[1].number);
        (!twice && all.iter().any(|build| build.number == current)).then_some(Generations { current, all })
    }

    /// Returns the build that the domain is defined on.
    pub fn current(&self) -> &Build {
        // `new` has seen that it is there; the first one is what an error here could do least harm with.
        self.get(self.current).unwrap_or(&self.all[0])
    }

    /// Returns the build of that number.
    pub fn get(&self, number: u32) -> Option<&Build> {
        self.all.iter().find(|build| build.number == number)
    }

    /// Returns the latest build that is made from what has that digest.
    pub fn with_digest(&self, digest: &str) -> Option<&Build> {
        self.all.iter().rev().find(|build| build.is_made_from(digest))
    }

    /// Returns all builds, by number.
    pub fn all(&self) -> &[Build] {
        &self.all
    }

    /// Returns the number for the next build.
    pub fn next(&self) -> u32 {
        self.all.last().map_or(1, |build| build.number + 1)
    }

    /// Returns the latest build before `number` that is not known to be unhealthy: where a rollback leads.
    pub fn before(&self, number: u32) -> Option<&Build> {
        self.all.iter().rev().find(|build| build.number < number && build.health != BuildHealth::Unhealthy)
    }

    /// Returns the builds with `build` among them and current; one of the same number is replaced.
    #[must_use]
    pub fn with(&self, build: Build) -> Self {
        let current = build.number;
        let mut all: Vec<Build> = self.all.iter().filter(|b| b.number != current).cloned().collect();
        all.push(build);
        all.sort_by_key(|build| build.number);
        Generations { current, all }
    }

    /// Returns the builds with that one current and untried. One that is there already keeps what is known of it: what lies in
    /// the pool under its number is what was made then.
    #[must_use]
    pub fn with_untried(&self, build: Build) -> Self {
        let known = self.get(build.number).filter(|known| known.digest == build.digest).cloned();
        self.with(Build { health: BuildHealth::Untried, ..known.unwrap_or(build) })
    }

    /// Returns the builds with that one current; the same, if there is none of that number.
    #[must_use]
    pub fn at(&self, number: u32) -> Self {
        let current = self.get(number).map_or(self.current, |build| build.number);
        Generations { current, all: self.all.clone() }
    }

    /// Returns the builds with what is known of one's health.
    #[must_use]
    pub fn judged(&self, number: u32, health: BuildHealth) -> Self {
        self.changed(number, |build| build.health = health)
    }

    /// Returns the builds with what was seen of one that is well.
    #[must_use]
    pub fn seen(&self, number: u32, seen: &Observation) -> Self {
        self.changed(number, |build| build.seen = Some(seen.clone()))
    }

    /// Returns the builds with the digest of other files that give the same system as one of them.
    #[must_use]
    pub fn also_from(&self, number: u32, digest: &str) -> Self {
        self.changed(number, |build| build.also = Some(digest.to_owned()))
    }

    fn changed(&self, number: u32, change: impl Fn(&mut Build)) -> Self {
        let mut changed = self.clone();
        changed.all.iter_mut().filter(|build| build.number == number).for_each(change);
        changed
    }

    /// Returns the builds without those that `keep` turns down; the current one always stays.
    #[must_use]
    pub fn retain(&self, keep: impl Fn(&Build) -> bool) -> Self {
        let stays = |build: &&Build| build.number == self.current || keep(build);
        Generations { current: self.current, all: self.all.iter().filter(stays).cloned().collect() }
    }
}

/// A point in a machine's life that can be gone back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Its name.
    pub name: SnapshotName,
    /// When it was taken, in seconds since 1970.
    pub taken: u64,
    /// The layer of data that it froze.
    pub layer: u32,
    /// The layer below, from before `layer` is merged into it until that is written down: once `layer` is no part of the
    /// chain in use any more, that one is the snapshot's.
    pub merging: Option<u32>,
    /// Whether the firmware's variables were kept beside it.
    pub nvram: bool,
    /// The generation that ran.
    pub generation: u32,
    /// Whether nothing was half written: the guest was off, or held still through its agent.
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
