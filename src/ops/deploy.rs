//! Brings a built machine to libvirt: volumes into the pool, then the domain.
//!
//! The order makes a crash harmless. The base and the boot volume can always be
//! made again; the data volume is made once, only where none is, and nothing
//! here ever deletes one; the domain, which makes all of it visible, comes last.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;

use crate::error::{Explain, Failure, Result};
use crate::hypervisor::Hypervisor;
use crate::interrupt;
use crate::model::domain::{DomainSpec, Metadata};
use crate::model::{Machine, Network, Progress, volume};
use crate::render;
use crate::storage::{self, Pool, Stored};

use super::accelerator::accelerator;
use super::{BuiltMachine, Setup, Watch};

/// Puts a machine's volumes into the pool and defines its domain.
///
/// # Errors
/// The pool has no room, the network cannot be had, or libvirt refuses; a data volume that exists is never touched.
pub fn deploy(
    setup: &Setup,
    host: &Hypervisor,
    machine: &Machine,
    built: &BuiltMachine,
    watch: &dyn Watch,
) -> Result<()> {
    ensure_network(host, &machine.network)?;
    let pool = open_pool(setup, host)?;
    let name = &machine.name;

    let mut progress = |moved: Progress| {
        watch.bytes(moved.done, moved.total);
        interrupt::check()
    };
    let image = &built.image;

    watch.step(&format!("Copying the base image of {} into the pool", machine.profile));
    if pool.put(&image.base_volume, &open(&image.base)?, &mut progress)? == Stored::Uploaded {
        watch.done(&format!(
            "Copied the base image of {} into the pool, once for all its machines",
            machine.profile
        ));
    }
    watch.step(&format!("Copying the boot disk of {name} into the pool"));
    let boot = volume::boot(name, built.generation.number);
    // What lies there under this name is of a `create` that was cut short: no domain uses it.
    pool.delete(&boot)?;
    pool.put(&boot, &open(&image.disk)?, &mut progress)?;

    let data = volume::data(name);
    if pool.is_whole(&data)? {
        watch.note(&format!("the pool has a data disk of {name} already; it is kept as it is"));
    } else {
        watch.step(&format!("Making the data disk of {name}"));
        let disk = storage::data::format(machine.var_size, &setup.workspace.output_dir())?;
        pool.put(&data, disk.as_file(), &mut progress)?;
    }
    put_identity(&pool, machine)?;

    let metadata = Metadata {
        machine: name.clone(),
        workspace: setup.workspace.root().display().to_string(),
        profile: machine.profile.clone(),
        generation: built.generation.number,
        digest: built.generation.digest.clone(),
        ssh_port: None,
    };
    redefine(setup, host, machine, &metadata, watch)?;
    watch.done(&format!("Defined {name}"));
    Ok(())
}

/// Defines a machine's domain from its files, on the volumes of the generation that `metadata` names.
///
/// # Errors
/// libvirt refuses, or a domain of that name is not this machine's.
pub fn redefine(
    setup: &Setup,
    host: &Hypervisor,
    machine: &Machine,
    metadata: &Metadata,
    watch: &dyn Watch,
) -> Result<()> {
    let name = &machine.name;
    let spec = DomainSpec {
        name: name.clone(),
        machine_id: machine.machine_id,
        arch: host.arch()?,
        accelerator: accelerator(setup, host, watch)?,
        memory: machine.memory,
        vcpus: machine.vcpus,
        network: machine.network.clone(),
        mac: machine.mac,
        pool: setup.pool.clone(),
        boot_volume: volume::boot(name, metadata.generation),
        data_volume: volume::data(name),
        identity_volume: volume::identity(name),
        metadata: Metadata { ssh_port: ssh_port(&machine.network, metadata.ssh_port)?, ..metadata.clone() },
    };
    host.define(name, machine.machine_id, &render::domain_xml(&spec)?)
}

/// Returns nixvm's pool, made where it is missing.
///
/// # Errors
/// libvirt refuses.
pub fn open_pool(setup: &Setup, host: &Hypervisor) -> Result<Pool> {
    let path = match host.is_session() {
        true => setup.session_pool.display().to_string(),
        false => format!("/var/lib/libvirt/images/{}", setup.pool),
    };
    Pool::ensure(host.connection(), &setup.pool, &render::pool_xml(&setup.pool, &path)?)
}

/// Writes a machine's secrets to its identity volume.
///
/// # Errors
/// The volume cannot be written.
pub fn put_identity(pool: &Pool, machine: &Machine) -> Result<()> {
    // An empty hash would let root in without a password; `!*` lets nobody in.
    let root = machine.root_password.as_ref().map_or("!*", |hash| hash.as_str());
    let image = storage::identity::image(&[
        ("ssh_host_ed25519_key", machine.host_key.private().as_bytes()),
        ("root_password_hash", format!("{root}\n").as_bytes()),
    ])?;
    let name = volume::identity(&machine.name);
    pool.delete(&name)?;
    pool.put_bytes(&name, &image).map(drop)
}

/// Makes sure that a machine's network is there.
///
/// # Errors
/// It is not, and cannot be made.
pub fn ensure_network(host: &Hypervisor, network: &Network) -> Result<()> {
    match network {
        Network::Nat => {
            let (bridge, subnet) = free_subnet();
            host.ensure_network("default", &render::network_xml(&bridge, subnet)?).map(drop)
        }
        Network::Bridge(_) | Network::User => check_bridge(host, network),
    }
}

/// Checks that a bridge that guests are to use is there, as far as that can be seen from this host.
///
/// # Errors
/// It is not.
pub fn check_bridge(host: &Hypervisor, network: &Network) -> Result<()> {
    match network {
        Network::Bridge(interface) if host.is_local() && !is_bridge(interface.as_str()) => {
            Err(Failure::user(format!("this host has no bridge `{interface}`"))
                .hint("list bridges with `ip -br link show type bridge`; docs/networking.md shows how to make one")
                .into())
        }
        _ => Ok(()),
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).explain(|| Failure::user(format!("cannot read `{}`", path.display())))
}

fn is_bridge(interface: &str) -> bool {
    Path::new("/sys/class/net").join(interface).join("bridge").is_dir()
}

/// Returns a bridge name and a third octet of 192.168.x.0/24 that nothing on this host uses; libvirt's own defaults, where they are free.
fn free_subnet() -> (String, u8) {
    let bridge =
        (0..).map(|n| format!("virbr{n}")).find(|name| !Path::new("/sys/class/net").join(name).exists());
    // An address of the range can be bound only if this host has it: then another network is there.
    let taken = |subnet: &u8| UdpSocket::bind((Ipv4Addr::new(192, 168, *subnet, 1), 0)).is_ok();
    (bridge.unwrap_or_default(), (122..=254).find(|subnet| !taken(subnet)).unwrap_or(122))
}

/// Returns the port of this host's loopback for a network without an address of its own, `None` for the others: the last one, if it is free.
fn ssh_port(network: &Network, last: Option<u16>) -> Result<Option<u16>> {
    let bound = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    match network {
        Network::User => {
            let listener = last.and_then(|port| bound(port).ok()).map_or_else(|| bound(0), Ok)?;
            Ok(Some(listener.local_addr()?.port()))
        }
        Network::Nat | Network::Bridge(_) => Ok(None),
    }
}
