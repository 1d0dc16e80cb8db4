//! Machines that were defined when nixvm named their disks as volumes: AppArmor lets QEMU at no such disk.

use crate::error::Result;
use crate::hypervisor::{BOOT, DATA, Hypervisor, IDENTITY, Owned};
use crate::storage::Pool;

use super::Watch;

/// Has a machine's definition name its disks as files, where it does not; what runs goes on as it is.
///
/// A disk whose pool or volume is missing stays as it is: the command that needs it says so. A definition that libvirt
/// does not take back, as one that was edited by hand may be, stays too: the machine can still be destroyed.
///
/// # Errors
/// libvirt does not answer.
pub fn name_disks(host: &Hypervisor, domain: &Owned, watch: &dyn Watch) -> Result<()> {
    let mut files = Vec::new();
    for disk in domain.disks()?.disks {
        let (Some(serial), Some(pool), Some(volume)) = (disk.serial, disk.pool, disk.volume) else {
            continue;
        };
        // A disk that somebody gave to the machine by hand is theirs.
        if ![BOOT, DATA, IDENTITY].contains(&serial.as_str()) {
            continue;
        }
        let path = Pool::find(host.connection(), &pool).ok().flatten().map(|pool| pool.volume_path(&volume));
        if let Some(Ok(path)) = path {
            files.push((serial, path));
        }
    }
    if files.is_empty() {
        return Ok(());
    }
    watch.note(&match domain.name_files(&files) {
        Ok(()) => format!(
            "the definition of {} names its disks as files from now on, as AppArmor needs it",
            domain.name()
        ),
        Err(error) => format!("AppArmor keeps QEMU from the disks of {}: {error:#}", domain.name()),
    });
    Ok(())
}
