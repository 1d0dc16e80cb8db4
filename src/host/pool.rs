//! nixvm's storage pool: made where it is missing, found for a machine.

use std::fs;

use crate::error::{Failure, Result};
use crate::host::Setup;
use crate::hypervisor::{DATA, Disk, Hypervisor};
use crate::model::{MachineName, PoolName, volume};
use crate::render;
use crate::storage::{self, Pool};

/// Returns nixvm's pool, made where it is missing.
///
/// # Errors
/// libvirt refuses; it is missing in a session on another host, where this user's home may be anywhere.
pub fn open_pool(setup: &Setup, host: &Hypervisor) -> Result<Pool> {
    match new_pool_folder(setup, host) {
        Some(path) => {
            let name = setup.pool.as_str();
            Pool::ensure(host.connection(), name, &render::pool_xml(name, &path)?)
        }
        None => open_elsewhere(setup, host),
    }
}

/// Returns the pool that a machine's data disk is in, as its definition says; `None` where it has no domain, or where the
/// disk is in no pool.
///
/// # Errors
/// The domain is not nixvm's, or libvirt does not answer.
pub fn pool_of(host: &Hypervisor, name: &MachineName) -> Result<Option<PoolName>> {
    if host.find(name)?.is_none() {
        return Ok(None);
    }
    let disks = host.see(name)?.disks()?;
    // What another tool has a machine write to may be anywhere.
    let is_volume = |disk: &&Disk| disk.volume.as_deref().and_then(volume::parse).is_some();
    let Some(disk) = disks.disk(DATA).filter(is_volume) else { return Ok(None) };
    let pool = match (&disk.pool, &disk.file) {
        (Some(pool), _) => Some(pool.clone()),
        (None, Some(file)) => storage::pool_with(host.connection(), file)?,
        (None, None) => None,
    };
    Ok(pool.and_then(|pool| pool.parse().ok()))
}

/// Returns the folder that a new pool gets; `None` where that is not for nixvm to choose.
fn new_pool_folder(setup: &Setup, host: &Hypervisor) -> Option<String> {
    match (host.is_session(), host.is_local()) {
        (false, _) => Some(format!("/var/lib/libvirt/images/{}", setup.pool)),
        (true, true) => Some(setup.session_pools.join(setup.pool.as_str()).display().to_string()),
        (true, false) => None,
    }
}

/// Checks that what confines QEMU on the host lets it at files in the pool's folder.
///
/// # Errors
/// It does not; libvirt does not answer.
pub fn check_folder(setup: &Setup, host: &Hypervisor) -> Result<()> {
    let pool = Pool::find(host.connection(), setup.pool.as_str())?;
    let folder = pool.map(|pool| pool.path()).transpose()?.or_else(|| new_pool_folder(setup, host));
    let Some(folder) = folder else { return Ok(()) };
    // What counts is the path behind all links, which only the host itself can tell.
    let real = fs::canonicalize(&folder).ok().filter(|_| host.is_local());
    let real = real.map_or_else(|| folder.clone(), |real| real.display().to_string());
    match host.confinement()?.refuses(&real) {
        None => Ok(()),
        Some(why) => Err(Failure::user(format!("no machine can start from the folder `{real}` of the pool `{}`", setup.pool))
            .because(Failure::user(why))
            .hint("use a pool in another folder: below /var/lib/libvirt/images or /srv, with nothing but letters, digits and `-` in its name")
            .into()),
    }
}

fn open_elsewhere(setup: &Setup, host: &Hypervisor) -> Result<Pool> {
    let name = setup.pool.as_str();
    Pool::find(host.connection(), name)?.ok_or_else(|| {
        Failure::user(format!("the session at `{}` has no pool `{name}`, and its home is not known here", host.uri()))
            .hint(format!(
                "make it on that host: `virsh -c qemu:///session pool-define-as {name} dir --target ~/.local/share/libvirt/images/{name}`, then `pool-build {name}`"
            ))
            .into()
    })
}
