//! Rewrites a definition that names its disks in a way that makes AppArmor keep QEMU from the files.

use crate::error::Result;
use crate::host::Watch;
use crate::hypervisor::{Hypervisor, Owned};
use crate::storage::Pool;

/// Changes a machine's definition so that it names its disks as files, where an older nixvm named volumes, and no longer names
/// what the disks lie on, where libvirt has added that. A running guest is not affected.
///
/// A disk whose pool or volume is missing stays as it is: the command that needs it says so. So does a definition that libvirt
/// does not accept, as one that was edited by hand may be: the machine can still be destroyed.
pub fn name_disks(host: &Hypervisor, domain: &Owned, watch: &dyn Watch) -> Result<()> {
    let mut files = Vec::new();
    for disk in domain.disks()?.disks {
        // A disk that somebody added by hand is theirs.
        let Some(serial) = disk.own_serial().map(str::to_owned) else { continue };
        match (disk.pool, disk.volume) {
            (Some(pool), Some(volume)) => {
                let pool = Pool::find(host.connection(), &pool).ok().flatten();
                let path = pool.map(|pool| pool.volume_path(&volume));
                files.extend(path.and_then(Result::ok).map(|path| (serial, Some(path))));
            }
            (None, _) if disk.chain.len() > 1 => files.push((serial, None)),
            _ => {}
        }
    }
    if files.is_empty() {
        return Ok(());
    }
    let (name, older) = (domain.name(), files.iter().any(|(_, path)| path.is_some()));
    match domain.name_files(&files) {
        Ok(()) if older => watch.note(&format!(
            "the definition of {name} names its disks as files from now on, as AppArmor requires"
        )),
        Ok(()) => {}
        Err(error) => watch.note(&format!("AppArmor keeps QEMU from the disks of {name}: {error:#}")),
    }
    Ok(())
}
