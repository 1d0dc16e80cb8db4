//! Which command must not run while another tool's snapshots, checkpoints or images are there.

use crate::error::{Failure, Result};
use crate::exec::quoted;
use crate::host::Setup;
use crate::hypervisor::{DATA, Definition, Hypervisor, Seen, is_own_checkpoint};
use crate::journal::Command;
use crate::model::MachineName;
use crate::model::record::Metadata;
use crate::storage::Pool;

use super::merge_hint::each;
use super::stray::{Stray, keeper};

/// The commands that delete the whole machine.
const DELETIONS: [&str; 2] = ["destroy", "purge"];

/// The commands after which reverting to another tool's snapshot does harm: the snapshot brings back the machine's old
/// definition, with its old name and with layers that are deleted or that nixvm's own snapshots keep by then.
const SPOIL_SNAPSHOTS: [&str; 6] =
    ["snapshot", "restore-snapshot", "delete-snapshot", "recreate", "restore-backup", "rename"];

/// The commands after which checkpoints have lost their bitmaps.
const LOSE_CHECKPOINTS: [&str; 4] = ["recreate", "rename", "restore-backup", "restore-snapshot"];

/// Checks that a command finds the machine's disks as nixvm left them and makes nothing of another tool's useless.
pub fn check(setup: &Setup, host: &Hypervisor, domain: &Seen, command: &Command) -> Result<()> {
    let verb = command.verb();
    if DELETIONS.contains(&verb) {
        return Ok(());
    }
    let definitions = require_own_images(setup, host, domain)?;
    let uri = quoted(host.uri());
    if let Some(refusal) = frozen(domain.metadata(), &definitions, command, &uri) {
        return Err(refusal.into());
    }
    let name = domain.name();
    if SPOIL_SNAPSHOTS.contains(&verb) {
        let snapshots = domain.foreign_snapshots(false)?;
        if !snapshots.is_empty() {
            let delete = |snapshot: &str| format!("`virsh -c {uri} snapshot-delete {name} {snapshot}`");
            return Err(useless(name, verb, "took snapshots of", "")
                .hint(format!(
                    "delete them, which leaves the machine as it is now, and run the command again: {}",
                    each(&snapshots, delete)
                ))
                .into());
        }
    }
    if LOSE_CHECKPOINTS.contains(&verb) || verb == "snapshot" && !domain.state()?.is_active() {
        let mut checkpoints = domain.checkpoints()?;
        checkpoints.retain(|checkpoint| !is_own_checkpoint(checkpoint));
        if !checkpoints.is_empty() {
            let keeps = if verb == "snapshot" {
                format!(" A snapshot of a running machine keeps them: `nixvm start {name}`.")
            } else {
                String::new()
            };
            let delete = |checkpoint: &str| {
                format!("`virsh -c {uri} checkpoint-delete {name} {checkpoint} --metadata`")
            };
            return Err(useless(name, verb, "made checkpoints of", " for its backups").hint(format!(
                "`virsh -c {uri} checkpoint-list {name}` shows them.{keeps} If that tool may start again with a full backup, delete \
                 them and run the command again: {}",
                each(&checkpoints, delete)
            ))
            .into());
        }
    }
    Ok(())
}

fn useless(name: &MachineName, verb: &str, made: &str, purpose: &str) -> Failure {
    Failure::user(format!(
        "another tool {made} {name}{purpose}, and `nixvm {verb}` would make them useless; nothing was changed"
    ))
}

/// Checks that the machine's disks write to its own volumes, and returns its definitions: for the next start, then the live one.
pub fn require_own_images(setup: &Setup, host: &Hypervisor, domain: &Seen) -> Result<Vec<Definition>> {
    let mut definitions = vec![domain.disks()?];
    if domain.state()?.is_active() {
        definitions.push(domain.live_disks()?);
    }
    if let Some(pool) = Pool::find(host.connection(), setup.pool.as_str())?
        && let Some(stray) = Stray::find(&pool, host, domain, &definitions)?
    {
        return Err(stray.refusal().into());
    }
    Ok(definitions)
}

/// Returns the refusal of a machine that writes to a layer which one of nixvm's snapshots keeps.
fn frozen(metadata: &Metadata, definitions: &[Definition], command: &Command, uri: &str) -> Option<Failure> {
    let name = &metadata.machine;
    let volumes = definitions.iter().filter_map(|definition| definition.volume(DATA));
    let (volume, snapshot) = volumes
        .filter_map(|volume| Some((volume, keeper(metadata, volume)?)))
        // Deleting that snapshot is the way out.
        .find(|(_, snapshot)| {
            *command != Command::new("delete-snapshot", [name.as_str(), snapshot.as_str()])
        })?;
    Some(
        Failure::user(format!(
            "{name} writes to `{volume}`, which its snapshot {snapshot} keeps; nothing was changed"
        ))
        .hint(format!(
            "`nixvm delete-snapshot {name} {snapshot}` deletes the snapshot, and the machine keeps the data that it has now. If the \
             machine was not started since, you can instead give its vdb its former layer again: `virsh -c {uri} edit {name}`"
        ))
        .because(Failure::user("somebody changed its definition, or merged layers with `virsh blockcommit`")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::layers::tests::layers;
    use crate::error::Report;
    use crate::hypervisor::Disk;

    const URI: &str = "qemu:///system";

    #[test]
    fn the_layer_in_use_is_kept_by_no_snapshot() {
        let metadata = layers(&[3, 2, 1], &[], &[("a", 1), ("b", 2)]).metadata;
        let on = |volume: &str| {
            let disk = Disk { serial: Some(DATA.into()), volume: Some(volume.into()), ..Disk::default() };
            Definition { disks: vec![disk], nvram: None }
        };
        let refused = |next: &str, now: &str, command: &str| {
            let (verb, rest) = command.split_once(' ').unwrap();
            frozen(&metadata, &[on(next), on(now)], &Command::new(verb, rest.split(' ')), URI)
                .map(|refusal| Report::of(&refusal.into()).error)
        };
        assert_eq!(keeper(&metadata, "web.data-1.qcow2").unwrap().as_str(), "a");
        assert_eq!(keeper(&metadata, "web.boot-1.qcow2"), None);
        let (free, kept) = ("web.data-3.qcow2", "web.data-2.qcow2");
        assert_eq!(refused(free, free, "start web"), None);
        for (next, now) in [(free, kept), (kept, free)] {
            let error = refused(next, now, "start web").unwrap();
            assert!(
                error.starts_with("web writes to `web.data-2.qcow2`, which its snapshot b keeps"),
                "{error}"
            );
        }
        assert_eq!(refused(kept, kept, "delete-snapshot web b"), None);
        assert!(refused(kept, kept, "delete-snapshot web a").is_some());
    }
}
