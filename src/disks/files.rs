//! What is taken out of a machine's definition because AppArmor would keep QEMU from its files.

use crate::error::Result;
use crate::host::Watch;
use crate::hypervisor::{BOOT, DATA, Hypervisor, IDENTITY, Owned};
use crate::storage::Pool;

/// Has a machine's definition name its disks as files, where an older nixvm named them as volumes, and nothing that they lie on,
/// where libvirt has added some of that; what runs goes on as it is.
///
/// A disk whose pool or volume is missing stays as it is: the command that needs it says so. A definition that libvirt
/// does not take back, as one that was edited by hand may be, stays too: the machine can still be destroyed.
///
/// # Errors
/// libvirt does not answer.
pub fn name_disks(host: &Hypervisor, domain: &Owned, watch: &dyn Watch) -> Result<()> {
    let mut files = Vec::new();
    for disk in domain.disks()?.disks {
        // A disk that somebody gave to the machine by hand is theirs.
        let Some(serial) = disk.serial.filter(|serial| [BOOT, DATA, IDENTITY].contains(&serial.as_str()))
        else {
            continue;
        };
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
    let named = domain.name_files(&files);
    let older = files.iter().any(|(_, path)| path.is_some());
    watch.note(&match named {
        Ok(()) if !older => return Ok(()),
        Ok(()) => format!(
            "the definition of {} names its disks as files from now on, as AppArmor needs it",
            domain.name()
        ),
        Err(error) => format!("AppArmor keeps QEMU from the disks of {}: {error:#}", domain.name()),
    });
    Ok(())
}
