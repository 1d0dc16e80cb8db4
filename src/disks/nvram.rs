//! The firmware's variables, which go with a machine's data.
//!
//! The definition names one volume for them, always the same, so that they cannot change together with the data by the
//! definition alone. Those that a restored machine is to have are therefore put beside it first, under a name that holds
//! the number of the layer they belong to. If the machine is defined on that layer they are to be put in force, whatever
//! died meanwhile; otherwise they are nobody's.

use std::io::Read;

use crate::disks::layer_of;
use crate::error::{Explain, Failure, Result};
use crate::hypervisor::Owned;
use crate::model::volume::{LARGEST_NVRAM, Role, VolumeStem};
use crate::storage::Pool;

/// Returns whether the machine has any: its first start makes them.
///
/// # Errors
/// libvirt does not answer.
pub fn exists(pool: &Pool, stem: &VolumeStem) -> Result<bool> {
    pool.has(&Role::Nvram.of(stem))
}

/// Returns the variables in that volume.
///
/// # Errors
/// There is no such volume, it has more bytes than any firmware's variables, or libvirt does not answer.
pub fn read(pool: &Pool, stem: &VolumeStem, role: &Role) -> Result<Vec<u8>> {
    let volume = role.of(stem);
    let say = || Failure::user(format!("cannot read the firmware's variables in `{volume}`"));
    let mut bytes = Vec::new();
    pool.reader(&volume)?.take(LARGEST_NVRAM + 1).read_to_end(&mut bytes).explain(say)?;
    if bytes.len() as u64 > LARGEST_NVRAM {
        return Err(say()
            .because(Failure::user("it has more than 64 MiB, which no firmware's variables have"))
            .hint("it was changed by hand: with the machine off, move the file away; its next start makes new variables")
            .into());
    }
    Ok(bytes)
}

/// Makes `to` a copy of the variables `from`, in place of what is there.
///
/// A guest that runs may write to them meanwhile. The firmware keeps them so that a power cut at any byte leaves the old
/// value or the new one (EDK II, fault-tolerant write), and a copy is no worse.
///
/// # Errors
/// As [`read`]; the pool has no space.
pub fn copy(pool: &Pool, stem: &VolumeStem, from: &Role, to: &Role) -> Result<()> {
    let bytes = read(pool, stem, from)?;
    let to = to.of(stem);
    pool.delete(&to)?;
    pool.put_bytes(&to, &bytes).map(drop)
}

/// Puts the variables in force that were made ready for the layer that the machine is on, if there are any.
///
/// # Errors
/// They cannot be read or written.
pub fn put_in_force(pool: &Pool, domain: &Owned) -> Result<()> {
    let stem = &domain.metadata().stem;
    let next = Role::NextNvram(layer_of(domain)?);
    if domain.state()?.is_active() || !pool.is_whole(&next.of(stem))? {
        return Ok(());
    }
    copy(pool, stem, &next, &Role::Nvram)?;
    pool.delete(&next.of(stem)).map(drop)
}
