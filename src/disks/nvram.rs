//! The firmware's variables, which belong to a machine's data.
//!
//! The definition always names the same volume for them, so a change of the definition cannot switch them together with the
//! data. The variables of a restored machine are therefore first put beside it, under a name with the number of their layer.
//! Once the machine is defined on that layer they are to be put in force, whatever was interrupted meanwhile.

use std::io::Read;

use crate::disks::layer_of;
use crate::error::{Explain, Failure, Result};
use crate::hypervisor::Owned;
use crate::model::volume::{LARGEST_NVRAM, Role, VolumeStem};
use crate::storage::Pool;

/// Returns whether the machine has any: its first start creates them.
pub fn exists(pool: &Pool, stem: &VolumeStem) -> Result<bool> {
    pool.has(&Role::Nvram.of(stem))
}

/// Returns the variables that the machine has; `None` before its first start.
pub fn present(pool: &Pool, stem: &VolumeStem) -> Result<Option<Vec<u8>>> {
    // Not `Pool::usage`: QEMU makes the file, and libvirt does not know it until the pool is refreshed.
    if exists(pool, stem)? { read(pool, stem, &Role::Nvram).map(Some) } else { Ok(None) }
}

/// Returns the variables in that volume. A volume that is larger than any firmware's variables is an error.
fn read(pool: &Pool, stem: &VolumeStem, role: &Role) -> Result<Vec<u8>> {
    let volume = role.of(stem);
    let say = || Failure::user(format!("cannot read the firmware's variables in `{volume}`"));
    let mut bytes = Vec::new();
    pool.reader(&volume)?.take(LARGEST_NVRAM + 1).read_to_end(&mut bytes).explain(say)?;
    if bytes.len() as u64 > LARGEST_NVRAM {
        return Err(say()
            .because(Failure::user("it has more than 64 MiB, which no firmware's variables have"))
            .hint("somebody changed the file: move it away while the machine is off; the next start creates new variables")
            .into());
    }
    Ok(bytes)
}

/// Replaces `to` by a copy of the variables `from`.
///
/// A running guest may write to them meanwhile. The firmware writes them so that a power cut at any byte leaves the old value
/// or the new one (EDK II, fault-tolerant write), and a copy is no worse.
pub fn copy(pool: &Pool, stem: &VolumeStem, from: &Role, to: &Role) -> Result<()> {
    let bytes = read(pool, stem, from)?;
    let to = to.of(stem);
    pool.delete(&to)?;
    pool.put_bytes(&to, &bytes).map(drop)
}

/// Puts in force the variables that were prepared for the layer that the machine is on, if there are any and it is off.
pub fn put_in_force(pool: &Pool, domain: &Owned) -> Result<()> {
    let stem = &domain.metadata().stem;
    let next = Role::NextNvram(layer_of(domain)?);
    if domain.state()?.is_active() || !pool.is_whole(&next.of(stem))? {
        return Ok(());
    }
    copy(pool, stem, &next, &Role::Nvram)?;
    pool.delete(&next.of(stem)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs qemu:///system"]
    fn variables_that_qemu_made_are_found_before_libvirt_knows_them() {
        let connection = crate::libvirt::connect("qemu:///system").unwrap();
        let dir = tempfile::Builder::new().tempdir_in("/var/lib/libvirt/images").unwrap();
        let name = "nixvm-t-nvram";
        let path = dir.path().join("pool");
        let xml = format!(
            "<pool type='dir'><name>{name}</name><target><path>{}</path></target></pool>",
            path.display()
        );
        let pool = Pool::ensure(&connection, name, &xml).unwrap();
        let stem = VolumeStem::from(&"web".parse().unwrap());
        let before = present(&pool, &stem);
        std::fs::write(path.join(Role::Nvram.of(&stem)), "variables").unwrap();
        let after = present(&pool, &stem);
        let defined = connection.lookup_storage_pool_by_name(name).unwrap();
        defined.destroy().unwrap();
        defined.undefine().unwrap();
        assert_eq!(before.unwrap(), None);
        assert_eq!(after.unwrap().as_deref(), Some(b"variables".as_slice()));
    }
}
