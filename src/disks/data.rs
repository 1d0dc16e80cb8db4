//! A machine's data disk: which layer it is, how large, and which volumes are the machine's.

use crate::error::{Failure, Result};
use crate::hypervisor::{DATA, Hypervisor, Owned, Seen};
use crate::model::volume::{self, Role, VolumeStem};
use crate::model::{MachineName, Size};
use crate::storage::Pool;

/// Returns the layer of data that a domain writes to, as its definition says.
///
/// # Errors
/// libvirt does not answer, or the definition was changed by hand and has no such disk.
pub fn layer_of(domain: &Seen) -> Result<u32> {
    let disks = domain.disks()?;
    let disk = disks.disk(DATA);
    match disk.and_then(|disk| volume::parse(disk.volume.as_deref()?)) {
        Some((stem, Role::Data(layer))) if stem == domain.metadata().stem => Ok(layer),
        _ => Err(Failure::user(match disk {
            Some(disk) => format!("the disk {} of {} is none of its volumes", disk.target, domain.name()),
            None => format!("{} has no disk with the serial number `{DATA}`", domain.name()),
        })
        .hint(format!(
            "somebody changed its definition: `virsh edit {}` shows it, and `qemu-img info --backing-chain` what a file lies on",
            domain.name()
        ))
        .into()),
    }
}

/// Returns how large the data disk of a machine is, running or not.
///
/// # Errors
/// It is missing, or libvirt does not answer.
pub fn data_capacity(pool: &Pool, domain: &Seen) -> Result<Size> {
    let volume = Role::Data(layer_of(domain)?).of(&domain.metadata().stem);
    Ok(pool.chain(&volume)?.first().map_or(Size::from_bytes(0), |top| Size::from_bytes(top.capacity)))
}

/// Makes the data disk of a machine larger; a guest that runs sees it at once.
///
/// Only the layer that is written grows. What lies below is frozen, and reads as zeros behind its end.
///
/// # Errors
/// It is larger already, the pool has no space, or libvirt refuses.
pub fn grow_data(pool: &Pool, domain: &Owned, size: Size) -> Result<()> {
    match domain.state()?.is_active() {
        true => domain.grow_data(size),
        false => pool.grow(&Role::Data(layer_of(domain)?).of(&domain.metadata().stem), size),
    }
}

/// Does the same for a machine that is about to start, which must not wait: returns whether it could be done at once.
///
/// # Errors
/// As [`grow_data`].
pub fn grow_data_now(pool: &Pool, domain: &Owned, size: Size) -> Result<bool> {
    pool.grow_now(&Role::Data(layer_of(domain)?).of(&domain.metadata().stem), size)
}

/// Returns how the volumes of a new machine of that name begin: no other domain's do so.
///
/// # Errors
/// libvirt does not answer.
pub fn free_stem(host: &Hypervisor, name: &MachineName) -> Result<VolumeStem> {
    let taken: Vec<VolumeStem> =
        host.domains()?.into_iter().filter_map(|domain| Some(domain.metadata?.stem)).collect();
    Ok(VolumeStem::free(name, &taken))
}

/// Returns the layers of data in the pool with that stem, lowest first.
///
/// # Errors
/// libvirt does not answer.
pub fn data_layers(pool: &Pool, stem: &VolumeStem) -> Result<Vec<u32>> {
    let layer = |name: &String| match volume::parse(name) {
        Some((owner, Role::Data(layer))) if owner == *stem => Some(layer),
        _ => None,
    };
    let mut layers: Vec<u32> = pool.volumes()?.iter().filter_map(layer).collect();
    layers.sort_unstable();
    Ok(layers)
}
