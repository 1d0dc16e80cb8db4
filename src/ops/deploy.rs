//! The steps that bring a built machine to libvirt: volumes into the pool, then the domain's definition.
//!
//! Each can be taken again. The base and the boot volume can always be made anew; a data volume is made once, only
//! where none is, and nothing here ever deletes one.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use rand_core::{OsRng, RngCore};

use crate::error::{Explain, Failure, Result};
use crate::hypervisor::{DATA, Disk, Hypervisor, Owned, Seen};
use crate::interrupt;
use crate::model::domain::{DomainFiles, DomainSpec};
use crate::model::record::{Build, BuildHealth, Metadata};
use crate::model::volume::{self, Role, VolumeStem};
use crate::model::{Machine, MachineName, Network, PoolName, Progress, Size};
use crate::nix::image::Image;
use crate::render;
use crate::storage::{self, Pool, Stored};

use super::accelerator::accelerator;
pub use super::subnet::{check_bridge, ensure_network};
use super::work::{Work, now};
use super::{BuiltMachine, Setup, Watch, exposure, kept};

/// Returns what a domain will say of a build.
pub fn record(machine: &Machine, built: &BuiltMachine) -> Build {
    Build {
        number: built.generation.number,
        profile: machine.profile.clone(),
        digest: built.generation.digest.clone(),
        also: None,
        fingerprint: Some(built.image.fingerprint.clone()),
        base: built.image.base_volume.clone(),
        made: now(),
        health: BuildHealth::Untried,
        nixpkgs: built.image.nixpkgs_revision.clone(),
        kernel: built.image.kernel.clone(),
        seen: None,
    }
}

/// Copies the base image into the pool, unless it is there.
///
/// # Errors
/// The host has another architecture than the image, the pool has no room, or libvirt refuses.
pub fn put_base(work: &Work, pool: &Pool, image: &Image) -> Result<()> {
    let profile = &image.profile;
    let wanted = work.host.arch()?.nix_system();
    if image.system != wanted {
        return Err(Failure::user(format!(
            "the image is for {}, and `{}` is {wanted}",
            image.system,
            work.host.uri()
        ))
        .hint("Nix builds for the computer that nixvm is called on: run it on one of the host's architecture")
        .into());
    }
    work.watch.step(&format!("Copying the base image of {profile} into the pool"));
    if pool.put(&image.base_volume, &open(&image.base)?, &mut moved(work.watch))? == Stored::Uploaded {
        work.watch
            .done(&format!("Copied the base image of {profile} into the pool, once for all its machines"));
    }
    Ok(())
}

/// Does the same as [`put_disk`], and keeps what the build was made from.
///
/// # Errors
/// The pool has no room, libvirt refuses, or the workspace's output cannot be written.
pub fn put_boot(work: &Work, pool: &Pool, volume: &str, built: &BuiltMachine) -> Result<()> {
    put_disk(work, pool, volume, &built.image)?;
    kept::keep(work.setup, built)
}

/// Copies a machine's boot disk into the pool, unless it is there, and sees that its base still is.
///
/// # Errors
/// The pool has no room, or libvirt refuses.
pub fn put_disk(work: &Work, pool: &Pool, volume: &str, image: &Image) -> Result<()> {
    work.watch.step(&format!("Copying the boot disk of {} into the pool", work.name));
    pool.put(volume, &open(&image.disk)?, &mut moved(work.watch))?;
    // From now on a volume says that it needs the base. `clean` of another workspace may have looked before.
    let base = &image.base_volume;
    pool.wait_while_condemned(base)?;
    if pool.put(base, &open(&image.base)?, &mut moved(work.watch))? == Stored::Uploaded {
        work.watch.note(&format!("copied {base} once more, for it was deleted a moment ago"));
    }
    Ok(())
}

/// Makes an empty data disk in the pool, unless it is there.
///
/// # Errors
/// The pool has no room, libvirt refuses, or this host cannot format a disk.
pub fn make_data(work: &Work, pool: &Pool, volume: &str, machine: &Machine) -> Result<()> {
    if pool.is_whole(volume)? {
        return Ok(());
    }
    work.watch.step(&format!("Making the data disk of {}", work.name));
    let disk = storage::data::format(machine.var_size, &work.setup.workspace.output_dir())?;
    pool.put(volume, disk.as_file(), &mut moved(work.watch)).map(drop)
}

/// Defines a machine's domain from its files, on the current generation that `metadata` names and that layer of data.
///
/// # Errors
/// libvirt refuses, or a domain of that name is not this machine's.
pub fn define(
    setup: &Setup,
    host: &Hypervisor,
    machine: &Machine,
    metadata: &Metadata,
    layer: u32,
    watch: &dyn Watch,
) -> Result<()> {
    let runs = host.find(&machine.name)?.is_some_and(|domain| domain.state.is_active());
    let ssh_port = match (&machine.network, metadata.ssh_port) {
        // Its own QEMU has the port: only a machine that is off can be given another.
        (Network::User, Some(port)) if runs => Some(port),
        (network, last) => ssh_port(host, network, last)?,
    };
    let spec = DomainSpec {
        name: machine.name.clone(),
        machine_id: machine.machine_id,
        arch: host.arch()?,
        accelerator: accelerator(setup, host, watch)?,
        memory: machine.memory,
        vcpus: machine.vcpus,
        network: machine.network.clone(),
        mac: machine.mac,
        files: files(&open_pool(setup, host)?, metadata, layer)?,
        metadata: Metadata { ssh_port, ..metadata.clone() },
    };
    let set_back = host.define(&machine.name, machine.machine_id, &render::domain_xml(&spec)?)?;
    if !set_back.is_empty() {
        watch.note(&format!(
            "the definition of {} was changed by hand; nixvm sets back what it defines itself: {}",
            machine.name,
            set_back.join(", ")
        ));
    }
    Ok(())
}

/// Returns where a machine's files are that its domain names.
///
/// # Errors
/// A disk is missing in the pool, or libvirt does not answer.
fn files(pool: &Pool, metadata: &Metadata, layer: u32) -> Result<DomainFiles> {
    let volume = |role: Role| role.of(&metadata.stem);
    let folder = pool.path()?;
    // QEMU makes these two at the first start: before that, libvirt knows no volumes for them.
    let made_later = |role: Role| format!("{folder}/{}", volume(role));
    Ok(DomainFiles {
        boot: pool.volume_path(&volume(Role::Boot(metadata.current().number)))?,
        data: pool.volume_path(&volume(Role::Data(layer)))?,
        identity: pool.volume_path(&volume(Role::Identity))?,
        nvram: made_later(Role::Nvram),
        serial_log: made_later(Role::SerialLog(None)),
    })
}

/// Returns the layer of data that a domain writes to, as its definition says.
///
/// # Errors
/// libvirt does not answer, or the definition was changed by hand and has no such disk.
pub fn layer_of(domain: &Seen) -> Result<u32> {
    let disks = domain.disks()?;
    let disk = disks.disk(DATA);
    match disk.and_then(|disk| volume::parse(disk.volume.as_deref()?)) {
        Some((stem, Role::Data(layer))) if stem == domain.metadata().stem => Ok(layer),
        _ => Err(Failure::user(match disk {
            Some(disk) => format!("the disk {} of {} is none of its volumes", disk.target, domain.name()),
            None => format!("{} has no disk with the serial number `{DATA}`", domain.name()),
        })
        .hint(format!(
            "somebody changed its definition: `virsh edit {}` shows it, and `qemu-img info --backing-chain` what a file lies on",
            domain.name()
        ))
        .into()),
    }
}

/// Returns how large the data disk of a machine is, running or not.
///
/// # Errors
/// It is missing, or libvirt does not answer.
pub fn data_capacity(pool: &Pool, domain: &Seen) -> Result<Size> {
    let volume = Role::Data(layer_of(domain)?).of(&domain.metadata().stem);
    Ok(pool.chain(&volume)?.first().map_or(Size::from_bytes(0), |top| Size::from_bytes(top.capacity)))
}

/// Makes the data disk of a machine larger; a guest that runs sees it at once.
///
/// Only the layer that is written grows. What lies below is frozen, and reads as zeros behind its end.
///
/// # Errors
/// It is larger already, the pool has no space, or libvirt refuses.
pub fn grow_data(pool: &Pool, domain: &Owned, size: Size) -> Result<()> {
    match domain.state()?.is_active() {
        true => domain.grow_data(size),
        false => pool.grow(&Role::Data(layer_of(domain)?).of(&domain.metadata().stem), size),
    }
}

/// Does the same for a machine that is about to start, which must not wait: returns whether it could be done at once.
///
/// # Errors
/// As [`grow_data`].
pub fn grow_data_now(pool: &Pool, domain: &Owned, size: Size) -> Result<bool> {
    pool.grow_now(&Role::Data(layer_of(domain)?).of(&domain.metadata().stem), size)
}

/// Returns how the volumes of a new machine of that name begin: no other domain's do so.
///
/// # Errors
/// libvirt does not answer.
pub fn free_stem(host: &Hypervisor, name: &MachineName) -> Result<VolumeStem> {
    let taken: Vec<VolumeStem> =
        host.domains()?.into_iter().filter_map(|domain| Some(domain.metadata?.stem)).collect();
    Ok(VolumeStem::free(name, &taken))
}

/// Returns the layers of data in the pool with that stem, lowest first.
///
/// # Errors
/// libvirt does not answer.
pub fn layers(pool: &Pool, stem: &VolumeStem) -> Result<Vec<u32>> {
    let layer = |name: &String| match volume::parse(name) {
        Some((owner, Role::Data(layer))) if owner == *stem => Some(layer),
        _ => None,
    };
    let mut layers: Vec<u32> = pool.volumes()?.iter().filter_map(layer).collect();
    layers.sort_unstable();
    Ok(layers)
}

/// Returns what an upload tells while it works: it shows how far it is, and ends at ^C.
pub fn moved(watch: &dyn Watch) -> impl FnMut(Progress) -> Result<()> {
    move |moved: Progress| {
        watch.bytes(moved.done, moved.total);
        interrupt::check()
    }
}

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

/// Writes a machine's secrets to its identity volume, unless it holds them, and warns where others could read them on the way.
///
/// A machine is to start again on a full disk too, and at most starts there is nothing new to write.
///
/// # Errors
/// The volume cannot be written.
pub fn put_identity(work: &Work, pool: &Pool, stem: &VolumeStem, machine: &Machine) -> Result<()> {
    exposure::warn(work.setup, &machine.name, "the ssh host key and the root password's hash", work.watch);
    // An empty hash would let root in without a password; `!*` lets nobody in.
    let root = machine.root_password.as_ref().map_or("!*", |hash| hash.as_str());
    let image = storage::identity::image(&[
        ("ssh_host_ed25519_key", machine.host_key.private().as_bytes()),
        ("root_password_hash", format!("{root}\n").as_bytes()),
    ])?;
    let name = Role::Identity.of(stem);
    if pool.holds(&name, &image)? {
        return Ok(());
    }
    pool.delete(&name)?;
    pool.put_bytes(&name, &image).map(drop)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).explain(|| Failure::user(format!("cannot read `{}`", path.display())))
}

/// Returns the port of the host's loopback for a network without an address of its own, `None` for the others: the last one, if it is free.
fn ssh_port(host: &Hypervisor, network: &Network, last: Option<u16>) -> Result<Option<u16>> {
    let bound = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    match network {
        Network::User if host.is_local() => {
            let listener = last.and_then(|port| bound(port).ok()).map_or_else(|| bound(0), Ok)?;
            Ok(Some(listener.local_addr()?.port()))
        }
        Network::User => {
            let ports = host.domains()?.into_iter().filter_map(|domain| domain.metadata?.ssh_port);
            Ok(Some(unseen_port(&ports.collect::<Vec<_>>(), OsRng.next_u32())))
        }
        Network::Nat | Network::Bridge(_) => Ok(None),
    }
}

/// Returns a port of another host, whose sockets cannot be seen from here, that none of its machines has.
///
/// It is another one at each start: should something else have it, the next try does not meet that again.
fn unseen_port(taken: &[u16], random: u32) -> u16 {
    // Below those that Linux gives to outgoing connections (`net.ipv4.ip_local_port_range`).
    let (first, count) = (20_000, 12_768);
    let ports = (0..count).map(|offset| first + (random % count + offset) % count);
    let mut ports = ports.filter_map(|port| u16::try_from(port).ok());
    ports.find(|port| !taken.contains(port)).unwrap_or(20_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_another_host_is_one_that_no_machine_of_it_has() {
        assert_eq!(unseen_port(&[], 0), 20_000);
        assert_eq!(unseen_port(&[20_000, 20_001], 0), 20_002);
        assert_eq!(unseen_port(&[32_767], u32::MAX - u32::MAX % 12_768 - 1), 20_000);
    }
}
