//! A machine's data disk: its layers, and its size.

use crate::error::{Failure, Result};
use crate::hypervisor::{DATA, Hypervisor, Owned, Seen};
use crate::model::volume::{self, Role, VolumeStem};
use crate::model::{MachineName, Size};
use crate::storage::Pool;

/// Returns the layer of data that a domain writes to, as its definition says.
pub fn layer_of(domain: &Seen) -> Result<u32> {
    let (name, disks) = (domain.name(), domain.disks()?);
    let disk = disks.disk(DATA);
    let layer = disk.and_then(|disk| layer_number(&domain.metadata().stem, disk.volume.as_deref()?));
    layer.ok_or_else(|| {
        Failure::user(match disk {
            Some(disk) => format!("the disk {} of {name} is none of its volumes", disk.target),
            None => format!("{name} has no disk with the serial number `{DATA}`"),
        })
        .hint(format!(
            "somebody changed its definition: `virsh edit {name}` shows it, and `qemu-img info --backing-chain` shows what a file lies on"
        ))
        .into()
    })
}

/// Returns the name of the volume that a domain writes its data to.
pub(super) fn data_volume(domain: &Seen) -> Result<String> {
    Ok(Role::Data(layer_of(domain)?).of(&domain.metadata().stem))
}

/// Returns the layer that a volume is; `None` if it is no layer of data with that stem.
pub(super) fn layer_number(stem: &VolumeStem, volume: &str) -> Option<u32> {
    match volume::parse(volume) {
        Some((owner, Role::Data(layer))) if owner == *stem => Some(layer),
        _ => None,
    }
}

/// Returns the highest layer of data in the pool with that stem.
pub fn highest_layer(pool: &Pool, stem: &VolumeStem) -> Result<Option<u32>> {
    Ok(pool.volumes()?.iter().filter_map(|volume| layer_number(stem, volume)).max())
}

/// Returns the number for a new layer, above all that are in the pool.
pub fn next_layer(pool: &Pool, stem: &VolumeStem) -> Result<u32> {
    Ok(highest_layer(pool, stem)?.map_or(1, |last| last + 1))
}

/// Returns the size of a machine's data disk, whether it runs or not.
pub fn data_capacity(pool: &Pool, domain: &Seen) -> Result<Size> {
    let chain = pool.chain(&data_volume(domain)?)?;
    Ok(Size::from_bytes(chain.first().map_or(0, |top| top.capacity)))
}

/// Makes the data disk of a machine larger; a running guest sees it at once. It is an error if the disk is larger already.
///
/// Only the layer that is written to grows. The layers below are frozen, and read as zeros behind their end.
pub fn grow_data(pool: &Pool, domain: &Owned, size: Size) -> Result<()> {
    if domain.state()?.is_active() { domain.grow_data(size) } else { pool.grow(&data_volume(domain)?, size) }
}

/// Does the same for a machine that is about to start, which must not wait: returns whether it could be done at once.
pub fn grow_data_now(pool: &Pool, domain: &Owned, size: Size) -> Result<bool> {
    pool.grow_now(&data_volume(domain)?, size)
}

/// Returns a stem for the volumes of a new machine of that name, one that no other domain has.
pub fn free_stem(host: &Hypervisor, name: &MachineName) -> Result<VolumeStem> {
    let taken: Vec<VolumeStem> =
        host.domains()?.into_iter().filter_map(|domain| Some(domain.metadata?.stem)).collect();
    Ok(VolumeStem::free(name, &taken))
}
