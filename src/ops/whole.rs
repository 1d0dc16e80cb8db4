//! Volumes that lost their first bytes in a power cut, made whole before a start.
//!
//! Such a volume was made in the last seconds before (`storage/put.rs` says why). What was built is in Nix's store still, and is
//! copied into the pool again; the firmware makes new variables. Only data cannot be made again: what the volume held was
//! never on the disk, and a person has to say what is to be in its place.

use crate::error::{Failure, Result};
use crate::hypervisor::Owned;
use crate::model::volume::Role;
use crate::nix::image::Image;
use crate::storage::{Link, Pool};

use super::deploy;
use super::work::Work;

/// Makes the volumes whole that the machine is to start from: `chain` is that of its data.
///
/// # Errors
/// Its data, or a system that is not in Nix's store any more, was lost; libvirt does not answer.
pub fn make_whole(work: &Work, pool: &Pool, domain: &Owned, chain: &[Link]) -> Result<()> {
    for link in chain {
        if pool.is_headless(&link.volume)? {
            return Err(lost_data(work, &link.volume).into());
        }
    }
    let metadata = domain.metadata();
    let variables = [Role::Nvram, Role::NextNvram(deploy::layer_of(domain)?)];
    for volume in variables.map(|role| role.of(&metadata.stem)) {
        if pool.is_headless(&volume)? {
            pool.delete(&volume)?;
            work.watch.note(&format!("`{volume}` was lost in a power cut: the firmware makes new variables"));
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
        deploy::put_base(work, pool, image)?;
    }
    if !has_boot {
        deploy::put_disk(work, pool, &boot, image)?;
    }
    Ok(())
}

fn lost_data(work: &Work, volume: &str) -> Failure {
    let name = &work.name;
    Failure::user(format!(
        "the data disk of {name} is not whole: `{volume}` lost its first bytes, as in a power cut soon after it was made"
    ))
    .hint(format!(
        "go back to a snapshot (`nixvm snapshots {name}`) or to a backup (`nixvm backups {name}`); where there is neither, `nixvm recreate {name}` makes a new, empty disk"
    ))
}

fn lost_system(work: &Work, volume: &str) -> Failure {
    let name = &work.name;
    Failure::user(format!("{name} cannot start: the volume `{volume}` is missing or not whole"))
        .hint(format!("`nixvm build --machine {name}` builds it again, and `nixvm start {name}` copies it into the pool; `nixvm generations {name}` shows the others"))
}
