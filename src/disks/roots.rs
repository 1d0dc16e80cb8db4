//! The volumes that a machine refers to, and so must keep.

use std::collections::BTreeSet;

use crate::disks::layer_of;
use crate::error::{Failure, Result};
use crate::hypervisor::Seen;
use crate::model::record::Metadata;
use crate::model::volume::Role;
use crate::storage::Pool;

/// Returns the names of all volumes that the machine's definition leads to: its disks, its generations, its snapshots, and what
/// these lie on. A chain that cannot be followed is an error: its volumes must not be taken for unused.
pub fn of(pool: &Pool, domain: &Seen) -> Result<BTreeSet<String>> {
    reachable(named(domain.metadata(), layer_of(domain)?), |volume| pool.below(volume))
}

/// Returns the volumes that the definition itself names.
fn named(metadata: &Metadata, layer: u32) -> Vec<String> {
    let builds = metadata.generations.all();
    // While a layer is merged into the one below, the snapshot is in both.
    let layers = metadata.snapshots.iter().flat_map(|snapshot| [Some(snapshot.layer), snapshot.merging]);
    let frozen = layers.flatten().flat_map(|layer| [Role::Data(layer), Role::FrozenNvram(layer)]);
    let own = [Role::Data(layer), Role::Identity, Role::Nvram, Role::NextNvram(layer), Role::SerialLog(None)];
    let roles = own.into_iter().chain(builds.iter().map(|build| Role::Boot(build.number))).chain(frozen);
    let bases = builds.iter().map(|build| build.base.clone());
    roles.map(|role| role.of(&metadata.stem)).chain(bases).collect()
}

/// Returns `named` and everything that lies below; `below` returns what a volume lies on.
fn reachable(
    named: Vec<String>,
    mut below: impl FnMut(&str) -> Result<Option<String>>,
) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for root in named {
        let mut chain = BTreeSet::new();
        let mut next = Some(root);
        while let Some(volume) = next {
            if !chain.insert(volume.clone()) {
                return Err(Failure::user(format!("the volume `{volume}` lies on itself"))
                    .hint(
                        "`qemu-img info --backing-chain` shows it; nixvm deletes nothing until this is fixed",
                    )
                    .into());
            }
            next = below(&volume)?;
        }
        found.extend(chain);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::record::tests::{build, snapshot};
    use crate::model::record::{Generations, Snapshot};

    #[test]
    fn what_lies_below_a_snapshot_is_kept_and_what_nothing_names_is_not() {
        let metadata = Metadata {
            machine: "web".parse().unwrap(),
            workspace: "/w".into(),
            stem: "web_2".parse().unwrap(),
            ssh_port: None,
            generations: Generations::first(build(1)).with(build(3)),
            snapshots: vec![Snapshot { merging: Some(1), ..snapshot("before", 2) }],
        };
        let backing: BTreeMap<String, String> =
            [("web_2.data-4.qcow2", "web_2.data-2.qcow2"), ("web_2.data-2.qcow2", "web_2.data-1.qcow2")]
                .map(|(above, below)| (above.to_owned(), below.to_owned()))
                .into();
        let found = reachable(named(&metadata, 4), |volume| Ok(backing.get(volume).cloned())).unwrap();
        for kept in [
            "data-1.qcow2",
            "data-2.qcow2",
            "data-4.qcow2",
            "boot-1.qcow2",
            "boot-3.qcow2",
            "nvram-1.fd",
            "nvram-2.fd",
            "nvram-next-4.fd",
            "nvram.fd",
        ] {
            assert!(found.contains(&format!("web_2.{kept}")), "{kept} of {found:?}");
        }
        assert!(found.contains(&build(1).base));
        assert!(!found.contains("web_2.data-3.qcow2") && !found.contains("web_2.boot-2.qcow2"));
    }

    #[test]
    fn a_circle_is_told_instead_of_followed() {
        let below = |volume: &str| Ok(Some(if volume == "a" { "b".to_owned() } else { "a".to_owned() }));
        assert!(reachable(vec!["a".into()], below).unwrap_err().to_string().ends_with("lies on itself"));
    }
}
