//! What another tool did to a machine's disks: snapshots, checkpoints and images that are not nixvm's.
//!
//! An external snapshot by virsh or virt-manager has the machine write to a new file that lies on its layer of data. A command
//! that went by the layer alone would leave all behind that was written since. So every command looks first, changes nothing,
//! and says how the two become one again.

use crate::error::{Failure, Result};
use crate::exec::quoted;
use crate::host::Setup;
use crate::hypervisor::{
    BOOT, Confinement, DATA, Definition, Disk, Hypervisor, IDENTITY, Seen, is_own_checkpoint,
};
use crate::journal::Command;
use crate::model::domain::DomainState;
use crate::model::record::Metadata;
use crate::model::uri::is_session;
use crate::model::volume::{self, Role};
use crate::model::{MachineName, SnapshotName};
use crate::storage::{self, Pool};

/// The commands that delete the whole machine.
const DELETIONS: [&str; 2] = ["destroy", "purge"];

/// The commands after which going back to another tool's snapshot does harm: it brings back the definition of then, with layers
/// that are gone or that nixvm's own snapshots keep by now, and with the name of then.
const SPOIL_SNAPSHOTS: [&str; 6] =
    ["snapshot", "restore-snapshot", "delete-snapshot", "recreate", "restore-backup", "rename"];

/// The commands after which no checkpoint has its notes any more.
const LOSE_CHECKPOINTS: [&str; 4] = ["recreate", "rename", "restore-backup", "restore-snapshot"];

/// Sees that a command finds the machine's disks where nixvm left them, and does away with nothing that is another tool's.
///
/// # Errors
/// A disk writes to a file that is not nixvm's or that a snapshot keeps; the command would lose another tool's snapshots or
/// checkpoints; libvirt does not answer.
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
    if SPOIL_SNAPSHOTS.contains(&verb) {
        require_no_snapshots(domain, verb, &uri)?;
    }
    if LOSE_CHECKPOINTS.contains(&verb) || verb == "snapshot" && !domain.state()?.is_active() {
        require_own_checkpoints(domain, verb, &uri)?;
    }
    Ok(())
}

/// Checks that the machine's disks write to its own volumes, and returns its definitions: for the next start, and of what runs.
///
/// # Errors
/// A disk writes to a file that is not nixvm's; libvirt does not answer.
pub fn require_own_images(setup: &Setup, host: &Hypervisor, domain: &Seen) -> Result<Vec<Definition>> {
    let state = domain.state()?;
    let mut definitions = vec![domain.disks()?];
    if state.is_active() {
        definitions.push(domain.live_disks()?);
    }
    if let Some(pool) = Pool::find(host.connection(), setup.pool.as_str())?
        && let Some(stray) = stray(&pool, host, domain.metadata(), &definitions)?
    {
        let snapshots = domain.foreign_snapshots(true)?;
        let way = Way { uri: host.uri(), state, confined: host.confinement()? == Confinement::AppArmor };
        return Err(stray.refusal(domain.name(), &snapshots, &way).into());
    }
    Ok(definitions)
}

/// Checks that the machine has no snapshots of another tool's.
fn require_no_snapshots(domain: &Seen, verb: &str, uri: &str) -> Result<()> {
    let (name, snapshots) = (domain.name(), domain.foreign_snapshots(false)?);
    if snapshots.is_empty() {
        return Ok(());
    }
    Err(Failure::user(format!(
        "another tool took snapshots of {name}, and `nixvm {verb}` would make them useless; nothing was changed"
    ))
    .hint(format!(
        "delete them, which leaves the machine what it has now, and run the command again: {}",
        each(&snapshots, |snapshot| format!("`virsh -c {uri} snapshot-delete {name} {snapshot}`"))
    ))
    .into())
}

/// Checks that the machine has no checkpoints of another tool's.
fn require_own_checkpoints(domain: &Seen, verb: &str, uri: &str) -> Result<()> {
    let (name, mut checkpoints) = (domain.name(), domain.checkpoints()?);
    checkpoints.retain(|checkpoint| !is_own_checkpoint(checkpoint));
    if checkpoints.is_empty() {
        return Ok(());
    }
    let keeps = match verb {
        "snapshot" => format!(" A snapshot of a machine that runs keeps them: `nixvm start {name}`."),
        _ => String::new(),
    };
    Err(Failure::user(format!(
        "another tool made checkpoints of {name} for its backups, and `nixvm {verb}` would make them useless; nothing was changed"
    ))
    .hint(format!(
        "`virsh -c {uri} checkpoint-list {name}` shows them.{keeps} Where that tool may begin anew with a full backup, delete them \
         and run the command again: {}",
        each(&checkpoints, |checkpoint| format!("`virsh -c {uri} checkpoint-delete {name} {checkpoint} --metadata`"))
    ))
    .into())
}

/// Returns the absolute paths of the images that the machine's disks write to from the next start on and that are not nixvm's.
///
/// # Errors
/// libvirt does not answer.
pub fn images(host: &Hypervisor, pool: &Pool, domain: &Seen) -> Result<Vec<String>> {
    let disks = domain.disks()?.disks.into_iter();
    let mut images = Vec::new();
    for disk in disks {
        if let (Some(false), Some(file)) = (is_ours(pool, host, domain.metadata(), &disk)?, disk.file) {
            images.push(file);
        }
    }
    Ok(images)
}

/// A disk of a machine that writes to an image that is not nixvm's.
#[derive(Debug, PartialEq, Eq)]
struct Stray {
    /// libvirt's name of the disk: `vdb`.
    target: String,
    /// The image's path; its name where libvirt does not tell the path.
    image: String,
    /// The path of the nearest volume of the machine's that the image lies on, if there is one.
    base: Option<String>,
    /// The snapshot of nixvm's that keeps that volume as it is.
    gives_up: Option<SnapshotName>,
}

/// What decides how a stray image is merged.
struct Way<'a> {
    uri: &'a str,
    state: DomainState,
    confined: bool,
}

impl Stray {
    fn refusal(&self, name: &MachineName, snapshots: &[String], way: &Way<'_>) -> Failure {
        let Stray { target, image, .. } = self;
        let failure = Failure::user(format!(
            "the disk {target} of {name} is `{image}`, which is not nixvm's; nothing was changed"
        ));
        let because = match (snapshots, &self.base) {
            ([], None) => "somebody changed the machine's definition".to_owned(),
            ([], Some(_)) => "another tool took a snapshot; the machine has written there since".to_owned(),
            (some, _) => format!(
                "another tool took {}; the machine has written there since",
                each(some, |snapshot| format!("the snapshot {snapshot}"))
            ),
        };
        failure.hint(self.hint(name, snapshots, way)).because(Failure::user(because))
    }

    /// Returns how the machine comes back to its own volume with all that it has written since.
    ///
    /// Tried with libvirt 9.0: `snapshot-delete` of an external snapshot merges it into the layer below it, and no further, and
    /// so does `blockcommit` with `--base`. Without that, `blockcommit` goes down to the lowest layer, through all snapshots.
    fn hint(&self, name: &MachineName, snapshots: &[String], way: &Way<'_>) -> String {
        let Stray { target, image, base, gives_up } = self;
        let (uri, file) = (quoted(way.uri), quoted(image));
        let Some(base) = base.as_deref().map(quoted) else {
            return format!(
                "if `qemu-img info --backing-chain {file}` shows that it lies on a volume of {name}'s, merge it into that: \
                 `virsh -c {uri} blockcommit {name} {target} --active --pivot --shallow` while the machine runs; \
                 if it does not, and holds nothing that is to be kept, give {target} back its volume with `virsh -c {uri} edit {name}`"
            );
        };
        let into = match gives_up {
            None => "the volume below, which loses nothing".to_owned(),
            Some(snapshot) => format!(
                "the volume below, which keeps what the machine has and gives up its snapshot {snapshot}"
            ),
        };
        let runs = way.state.is_active();
        if way.state == DomainState::Saved {
            return format!(
                "the machine is saved, and its memory fits only this: let it go on with `virsh -c {uri} start {name}`, and run the command again"
            );
        }
        // Where AppArmor confines QEMU, one that is started anew may not write to what its disk lies on.
        if !snapshots.is_empty() && (runs || !way.confined) {
            let delete =
                each(snapshots, |snapshot| format!("`virsh -c {uri} snapshot-delete {name} {snapshot}`"));
            let confined = match way.confined {
                true => {
                    format!(" (where AppArmor forbids that: `nixvm stop {name}`, and run the command again)")
                }
                false => String::new(),
            };
            return format!("merge it into {into}, and run the command again: {delete}{confined}");
        }
        if runs {
            return format!(
                "merge it into {into}, and run the command again: \
                 `virsh -c {uri} blockcommit {name} {target} --active --pivot --base {base}`"
            );
        }
        let forget = match snapshots {
            [] => String::new(),
            some => {
                let delete = each(some, |snapshot| {
                    format!("`virsh -c {uri} snapshot-delete {name} {snapshot} --metadata`")
                });
                format!("; then {delete}")
            }
        };
        let root = if is_session(way.uri) { "" } else { ", as root," };
        format!(
            "merge it on its host{root} into {into}: `qemu-img commit -b {base} {file}`; then write {base} in place of {file} \
             by `virsh -c {uri} edit {name}`{forget}; and run the command again"
        )
    }
}

/// Returns the first of the machine's disks, for now or for its next start, that writes to an image that is not nixvm's.
fn stray(
    pool: &Pool,
    host: &Hypervisor,
    metadata: &Metadata,
    definitions: &[Definition],
) -> Result<Option<Stray>> {
    // What runs comes last, and knows all that its disks lie on.
    for disk in definitions.iter().rev().flat_map(|definition| &definition.disks) {
        if is_ours(pool, host, metadata, disk)? == Some(false) {
            let base = base(pool, metadata, disk)?;
            let folder = pool.path()?;
            return Ok(Some(Stray {
                target: disk.target.clone(),
                image: disk.file.clone().or_else(|| disk.volume.clone()).unwrap_or_else(|| "no file".into()),
                gives_up: base.as_deref().and_then(|base| keeper(metadata, base)).cloned(),
                base: base.map(|volume| format!("{folder}/{volume}")),
            }));
        }
    }
    Ok(None)
}

/// Returns whether a disk of nixvm's writes to a volume of the machine's; `None` for a disk that somebody gave it by hand.
fn is_ours(pool: &Pool, host: &Hypervisor, metadata: &Metadata, disk: &Disk) -> Result<Option<bool>> {
    let Some(serial) = disk.serial.as_deref().filter(|serial| [BOOT, DATA, IDENTITY].contains(serial)) else {
        return Ok(None);
    };
    let named = disk.volume.as_deref().is_some_and(|volume| is_volume(metadata, serial, volume));
    let here = match (&disk.file, &disk.pool) {
        (Some(file), _) => {
            let folder = file.rsplit_once('/').map(|(folder, _)| folder);
            folder == Some(pool.path()?.trim_end_matches('/'))
                || storage::pool_with(host.connection(), file)?.as_deref() == Some(pool.name())
        }
        (None, of) => of.as_deref() == Some(pool.name()),
    };
    Ok(Some(named && here))
}

/// Returns whether a volume is called as the machine's for the disk of that serial number.
fn is_volume(metadata: &Metadata, serial: &str, volume: &str) -> bool {
    volume::parse(volume).is_some_and(|(stem, role)| {
        stem == metadata.stem
            && match role {
                Role::Boot(_) => serial == BOOT,
                Role::Data(_) => serial == DATA,
                Role::Identity => serial == IDENTITY,
                _ => false,
            }
    })
}

/// Returns the name of the nearest volume of the machine's that the disk's image lies on, if libvirt tells of one.
fn base(pool: &Pool, metadata: &Metadata, disk: &Disk) -> Result<Option<String>> {
    let serial = disk.serial.as_deref().unwrap_or_default();
    let is_own = |volume: &&String| is_volume(metadata, serial, volume);
    let mut found = disk.chain.iter().skip(1).find(is_own).cloned();
    if found.is_none() {
        let backing = pool.backing_of_all()?;
        let mut next = disk.volume.as_ref();
        // One that lies on itself ends the search too.
        for _ in 0..backing.len() {
            next = next.and_then(|volume| backing.get(volume));
            found = found.or_else(|| next.filter(is_own).cloned());
        }
    }
    Ok(found)
}

/// Returns the snapshot of nixvm's that keeps that volume as it is.
fn keeper<'a>(metadata: &'a Metadata, volume: &str) -> Option<&'a SnapshotName> {
    let Some((_, Role::Data(layer))) = volume::parse(volume) else { return None };
    metadata.snapshots.iter().find(|snapshot| snapshot.layer == layer).map(|snapshot| &snapshot.name)
}

/// Returns the refusal of a machine that writes to a layer which a snapshot of nixvm's keeps.
fn frozen(metadata: &Metadata, definitions: &[Definition], command: &Command, uri: &str) -> Option<Failure> {
    let name = &metadata.machine;
    let volumes = definitions.iter().filter_map(|definition| definition.volume(DATA));
    let (volume, snapshot) = volumes
        .filter_map(|volume| Some((volume, keeper(metadata, volume)?)))
        // Giving that snapshot up is the way out.
        .find(|(_, snapshot)| {
            *command != Command::new("delete-snapshot", [name.as_str(), snapshot.as_str()])
        })?;
    Some(
        Failure::user(format!(
            "{name} writes to `{volume}`, which its snapshot {snapshot} keeps; nothing was changed"
        ))
        .hint(format!(
            "`nixvm delete-snapshot {name} {snapshot}` gives the snapshot up, and the machine keeps what it has now. Only if it was \
             not started since: give its vdb back the layer that it had, with `virsh -c {uri} edit {name}`"
        ))
        .because(Failure::user("somebody changed its definition, or merged layers with `virsh blockcommit`")),
    )
}

/// Returns what `say` makes of each name, quoted for a shell, in one sentence.
fn each(names: &[String], say: impl Fn(&str) -> String) -> String {
    names.iter().map(|name| say(&quoted(name))).collect::<Vec<_>>().join(", then ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::layers::tests::layers;
    use crate::error::Report;

    const URI: &str = "qemu:///system";

    fn hint(base: Option<&str>, snapshots: &[&str], state: DomainState, confined: bool) -> String {
        let stray = Stray {
            target: "vdb".into(),
            image: "/p/web.data-2.s".into(),
            base: base.map(str::to_owned),
            gives_up: None,
        };
        let snapshots: Vec<String> = snapshots.iter().map(|name| (*name).to_owned()).collect();
        let way = Way { uri: URI, state, confined };
        let refusal = stray.refusal(&"web".parse().unwrap(), &snapshots, &way);
        Report::of(&refusal.into()).hints.concat()
    }

    #[test]
    fn the_way_back_to_the_layer_keeps_what_was_written_and_stops_at_that_layer() {
        const BASE: Option<&str> = Some("/p/web.data-2.qcow2");
        let (on, off) = (DomainState::Running, DomainState::Shutoff);
        let libvirt = "`virsh -c qemu:///system snapshot-delete web 'by hand'`, then `virsh -c qemu:///system snapshot-delete web s2`";
        for (state, confined) in [(on, false), (on, true), (off, false)] {
            let hint = hint(BASE, &["by hand", "s2"], state, confined);
            assert!(hint.contains(libvirt) && hint.contains("nixvm stop web") == confined, "{hint}");
        }
        let commit =
            "`virsh -c qemu:///system blockcommit web vdb --active --pivot --base /p/web.data-2.qcow2`";
        assert!(hint(BASE, &[], on, true).ends_with(commit));
        let qemu = "`qemu-img commit -b /p/web.data-2.qcow2 /p/web.data-2.s`";
        assert!(hint(BASE, &[], off, false).contains(qemu));
        let confined = hint(BASE, &["s"], off, true);
        assert!(
            confined.contains(qemu) && confined.contains("snapshot-delete web s --metadata"),
            "{confined}"
        );
        assert!(hint(None, &["s"], on, false).contains("--shallow"));
        assert!(
            hint(BASE, &["s"], DomainState::Saved, false).contains("`virsh -c qemu:///system start web`")
        );
    }

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
