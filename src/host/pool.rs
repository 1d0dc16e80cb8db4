//! nixvm's storage pool: created where it is missing, found for a machine, checked for files that QEMU may open.

use std::fs;

use crate::error::{Failure, Result};
use crate::host::Setup;
use crate::hypervisor::{DATA, Disk, Hypervisor};
use crate::model::{MachineName, PoolName, volume};
use crate::render;
use crate::storage::{self, Pool};

/// Returns nixvm's pool, created if it is missing: not in a session on another host, whose home folders are not known.
pub fn open_pool(setup: &Setup, host: &Hypervisor) -> Result<Pool> {
    let name = setup.pool.as_str();
    if let Some(path) = new_pool_folder(setup, host) {
        return Pool::ensure(host.connection(), name, &render::pool_xml(name, &path)?);
    }
    Pool::find(host.connection(), name)?.ok_or_else(|| {
        Failure::user(format!(
            "the session at `{}` has no pool `{name}`, and nixvm does not know the home folder there to create one",
            host.uri()
        ))
        .hint(format!(
            "create it on that host: `virsh -c qemu:///session pool-define-as {name} dir --target ~/.local/share/libvirt/images/{name}`, then `pool-build {name}`"
        ))
        .into()
    })
}

/// Returns the folder for a new pool; `None` where nixvm cannot choose one.
fn new_pool_folder(setup: &Setup, host: &Hypervisor) -> Option<String> {
    if !host.is_session() {
        return Some(format!("/var/lib/libvirt/images/{}", setup.pool));
    }
    host.is_local().then(|| setup.session_pools.join(setup.pool.as_str()).display().to_string())
}

/// Returns the pool of a machine's data disk, as its definition says; `None` without a domain or for a disk outside pools.
pub fn pool_of(host: &Hypervisor, name: &MachineName) -> Result<Option<PoolName>> {
    if host.find(name)?.is_none() {
        return Ok(None);
    }
    let disks = host.see(name)?.disks()?;
    // An image that another tool put in place may be anywhere.
    let is_volume = |disk: &&Disk| disk.volume.as_deref().and_then(volume::parse).is_some();
    let Some(disk) = disks.disk(DATA).filter(is_volume) else { return Ok(None) };
    let pool = match (&disk.pool, &disk.file) {
        (Some(pool), _) => Some(pool.clone()),
        (None, Some(file)) => storage::pool_with(host.connection(), file)?,
        (None, None) => None,
    };
    Ok(pool.and_then(|pool| pool.parse().ok()))
}

/// Checks that the security driver which confines QEMU on the host allows it to open files in the pool's folder.
pub fn check_folder(setup: &Setup, host: &Hypervisor) -> Result<()> {
    let pool = Pool::find(host.connection(), setup.pool.as_str())?;
    let folder = pool.map(|pool| pool.path()).transpose()?.or_else(|| new_pool_folder(setup, host));
    let Some(folder) = folder else { return Ok(()) };
    // The path behind all links decides, which only the host itself can tell.
    let real = fs::canonicalize(&folder).ok().filter(|_| host.is_local());
    let real = real.map_or(folder, |real| real.display().to_string());
    match host.confinement()?.refuses(&real) {
        None => Ok(()),
        Some(why) => Err(Failure::user(format!("no machine can start from the folder `{real}` of the pool `{}`", setup.pool))
            .because(Failure::user(why))
            .hint("use a pool in another folder: below /var/lib/libvirt/images or /srv, with nothing but letters, digits and `-` in its name")
            .into()),
    }
}
