//! Images that a machine's disks write to and that are not nixvm's.

use crate::error::Result;
use crate::hypervisor::{BOOT, Confinement, DATA, Definition, Disk, Hypervisor, IDENTITY, Seen};
use crate::model::domain::DomainState;
use crate::model::record::Metadata;
use crate::model::volume::{self, Role};
use crate::model::{MachineName, SnapshotName};
use crate::storage::{self, Pool};

/// A disk of a machine that writes to an image that is not nixvm's, and what decides how that image is merged.
pub(super) struct Stray {
    pub(super) machine: MachineName,
    pub(super) uri: String,
    pub(super) state: DomainState,
    /// Whether AppArmor confines QEMU.
    pub(super) confined: bool,
    /// Another tool's snapshots that libvirt knows of.
    pub(super) snapshots: Vec<String>,
    /// libvirt's name of the disk: `vdb`.
    pub(super) target: String,
    /// The image's path; its name where libvirt does not tell the path.
    pub(super) image: String,
    /// The path of the nearest volume of the machine that the image lies on, if there is one.
    pub(super) base: Option<String>,
    /// The snapshot of nixvm's that keeps that volume, and is lost if the image is merged into it.
    pub(super) gives_up: Option<SnapshotName>,
}

impl Stray {
    /// Returns the first of the machine's disks that writes to an image that is not nixvm's, in any of its definitions.
    pub(super) fn find(
        pool: &Pool,
        host: &Hypervisor,
        domain: &Seen,
        definitions: &[Definition],
    ) -> Result<Option<Self>> {
        let metadata = domain.metadata();
        // The running definition comes last, and knows everything that its disks lie on.
        for disk in definitions.iter().rev().flat_map(|definition| &definition.disks) {
            if is_ours(pool, host, metadata, disk)? == Some(false) {
                let base = base(pool, metadata, disk)?;
                let folder = pool.path()?;
                let image = disk.file.as_ref().or(disk.volume.as_ref());
                return Ok(Some(Stray {
                    machine: domain.name().clone(),
                    uri: host.uri().to_owned(),
                    state: domain.state()?,
                    confined: host.confinement()? == Confinement::AppArmor,
                    snapshots: domain.foreign_snapshots(true)?,
                    target: disk.target.clone(),
                    image: image.map_or("no file", |image| image).to_owned(),
                    gives_up: base.as_deref().and_then(|base| keeper(metadata, base)).cloned(),
                    base: base.map(|volume| format!("{folder}/{volume}")),
                }));
            }
        }
        Ok(None)
    }
}

/// Returns the absolute paths of the images that the machine's disks write to from the next start on and that are not nixvm's.
pub fn images(host: &Hypervisor, pool: &Pool, domain: &Seen) -> Result<Vec<String>> {
    let mut images = Vec::new();
    for disk in domain.disks()?.disks {
        if is_ours(pool, host, domain.metadata(), &disk)? == Some(false) {
            images.extend(disk.file);
        }
    }
    Ok(images)
}

/// Returns whether a disk writes to a volume of the machine; `None` for a disk that somebody added by hand.
fn is_ours(pool: &Pool, host: &Hypervisor, metadata: &Metadata, disk: &Disk) -> Result<Option<bool>> {
    let Some(serial) = disk.own_serial() else { return Ok(None) };
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

/// Returns whether a volume has the name of the machine's volume for the disk of that serial number.
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

/// Returns the name of the nearest volume of the machine that the disk's image lies on, as far as libvirt knows.
fn base(pool: &Pool, metadata: &Metadata, disk: &Disk) -> Result<Option<String>> {
    let serial = disk.serial.as_deref().unwrap_or_default();
    let is_own = |volume: &&String| is_volume(metadata, serial, volume);
    let mut found = disk.chain.iter().skip(1).find(is_own).cloned();
    if found.is_none() {
        let backing = pool.backing_of_all()?;
        let mut next = disk.volume.as_ref();
        // A limit, in case a volume lies on itself.
        for _ in 0..backing.len() {
            next = next.and_then(|volume| backing.get(volume));
            found = found.or_else(|| next.filter(is_own).cloned());
        }
    }
    Ok(found)
}

/// Returns the snapshot of nixvm's that keeps that volume.
pub(super) fn keeper<'a>(metadata: &'a Metadata, volume: &str) -> Option<&'a SnapshotName> {
    let Some((_, Role::Data(layer))) = volume::parse(volume) else { return None };
    metadata.snapshots.iter().find(|snapshot| snapshot.layer == layer).map(|snapshot| &snapshot.name)
}
