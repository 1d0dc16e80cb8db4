//! Before a start, volumes that lost their first bytes in a power cut are made whole.
//!
//! Such a volume was made in the last seconds before it (`storage/put.rs` says why). The system is copied into the pool again
//! from Nix's store, and the firmware makes new variables. Data cannot be made again, because it never reached the disk: a
//! person has to say what takes its place.

use crate::disks::layer_of;
use crate::error::{Failure, Result};
use crate::hypervisor::Owned;
use crate::model::volume::Role;
use crate::nix::image::Image;
use crate::storage::{Link, Pool};
use crate::work::{Work, steps};

/// Makes the volumes whole that a machine starts from; `chain` is that of its data.
///
/// # Errors
/// Its data was lost, or a system that is no longer in Nix's store.
pub fn make_whole(work: &Work, pool: &Pool, domain: &Owned, chain: &[Link]) -> Result<()> {
    for link in chain {
        if pool.is_headless(&link.volume)? {
            return Err(lost_data(work, &link.volume).into());
        }
    }
    let metadata = domain.metadata();
    let variables = [Role::Nvram, Role::NextNvram(layer_of(domain)?)];
    for volume in variables.map(|role| role.of(&metadata.stem)) {
        if pool.is_headless(&volume)? {
            pool.delete(&volume)?;
            work.watch.note(&format!("`{volume}` was lost in a power cut; the firmware makes new variables"));
        }
    }
    let (current, boot) = (metadata.current(), Role::Boot(metadata.current().number).of(&metadata.stem));
    let (has_boot, has_base) = (pool.is_whole(&boot)?, pool.is_whole(&current.base)?);
    if has_boot && has_base {
        return Ok(());
    }
    let built = work.setup.workspace.build_dir().join(format!("vm-{}", work.name));
    let image = Image::read(&built).ok().filter(|image| image.base_volume == current.base);
    let same = |image: &&Image| has_boot || current.fingerprint.as_deref() == Some(&image.fingerprint);
    let Some(image) = image.as_ref().filter(same) else {
        return Err(lost_system(work, if has_boot { &current.base } else { &boot }).into());
    };
    if !has_base {
        steps::put_base(work, pool, image)?;
    }
    if !has_boot {
        steps::put_disk(work, pool, &boot, image)?;
    }
    Ok(())
}

fn lost_data(work: &Work, volume: &str) -> Failure {
    let name = &work.name;
    Failure::user(format!(
        "the data disk of {name} is not whole: `{volume}` has lost its first bytes, as a power cut soon after its making does"
    ))
    .hint(format!(
        "go back to a snapshot (`nixvm snapshots {name}`) or a backup (`nixvm backups {name}`); without either, `nixvm recreate {name}` makes a new, empty disk"
    ))
}

fn lost_system(work: &Work, volume: &str) -> Failure {
    let name = &work.name;
    Failure::user(format!("{name} cannot start: the volume `{volume}` is missing or not whole"))
        .hint(format!("`nixvm build --machine {name}` builds it again, and then `nixvm start {name}` copies it into the pool; `nixvm generations {name}` lists other builds"))
}
