//! `status`: everything about one machine.

use std::net::SocketAddr;

use serde::Serialize;

use crate::build::kept;
use crate::config;
use crate::disks::foreign;
use crate::disks::layers::check_chain;
use crate::error::Result;
use crate::guest::listeners::{OpenPorts, without_listener};
use crate::guest::{Place, place};
use crate::host::{Setup, open_pool, ownership};
use crate::hypervisor::{Hypervisor, Seen};
use crate::journal::{self, WorkState};
use crate::model::domain::DomainState;
use crate::model::volume::{self, VolumeStem};
use crate::model::{Connection, MachineName, PoolName};
use crate::nix::image::read_not_carried_out;
use crate::storage::Pool;

/// One machine, as declared and as observed.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its domain's state; `None` where it is only declared.
    pub state: Option<DomainState>,
    /// Whether its guest's file systems are frozen, as for a backup: whoever writes there waits.
    pub frozen: bool,
    /// Where its ssh is reached.
    pub address: Option<SocketAddr>,
    /// Why it has no address though it runs.
    pub no_address: Option<String>,
    /// Its profile.
    pub profile: String,
    /// The generation its domain was built from.
    pub generation: Option<u32>,
    /// Options and packages that this generation was to have and does not; empty, too, where the workspace does not know.
    pub not_carried_out: Vec<String>,
    /// Memory in MiB, as declared; this and others are `None` for another workspace's machine, whose files say it.
    pub memory_mib: Option<u64>,
    /// Virtual CPUs, as declared.
    pub vcpus: Option<u32>,
    /// Virtual CPUs of its guest: others than declared until the next start, and one while it is emulated. `None` where it is
    /// only declared.
    pub guest_vcpus: Option<u32>,
    /// The network, as declared.
    pub network: Option<String>,
    /// Ports that its firewall lets in and that nothing in its guest listens on; `None` where the guest does not say.
    pub without_listener: Option<OpenPorts>,
    /// Its hardware address.
    pub mac_address: Option<String>,
    /// The pool that its disks are in.
    pub pool: PoolName,
    /// The libvirt that has it.
    pub connection: Connection,
    /// Its volumes.
    pub disks: Vec<Disk>,
    /// How many snapshots it has.
    pub snapshots: usize,
    /// How many layers its data disk lies on, itself among them; `None` where it has no domain or one of them is missing.
    pub chain: Option<usize>,
    /// Files that its disks write to and that another tool made.
    pub foreign_images: Vec<String>,
    /// The workspace whose machine it is, if that is not this one.
    pub other_workspace: Option<String>,
    /// What is being done to the machine, or was interrupted.
    pub work: Option<WorkInHand>,
}

/// A command's work on a machine that is not at its end.
#[derive(Debug, Clone, Serialize)]
pub struct WorkInHand {
    /// The command.
    pub command: String,
    /// Where it stands, in words.
    pub place: String,
    /// The process that is at it; `None` where it was interrupted.
    pub pid: Option<u32>,
}

/// A volume of a machine.
#[derive(Debug, Clone, Serialize)]
pub struct Disk {
    /// Its name in the pool.
    pub volume: String,
    /// Its size as the guest sees it, in bytes.
    pub capacity: u64,
    /// What it takes on the host, in bytes.
    pub allocation: u64,
}

/// Returns the state of a machine; of another workspace's, what its domain says.
///
/// # Errors
/// There is no such machine, its files are not valid, or libvirt does not answer.
pub fn status(setup: &Setup, name: &MachineName) -> Result<Status> {
    let host = setup.hypervisor()?;
    let known = host.find(name)?.is_some() || !config::exists(&setup.workspace, name);
    let domain = if known { Some(host.see(name)?) } else { None };
    let other_workspace = domain.as_ref().map(|domain| whose(setup, &host, domain)).transpose()?.flatten();
    let machine = match other_workspace {
        None => Some(config::load(&setup.workspace, name)?),
        Some(_) => None,
    };
    let state = domain.as_ref().map(|domain| domain.state()).transpose()?;
    let up = domain.as_ref().filter(|_| state.is_some_and(DomainState::can_answer));
    let place = up.zip(machine.as_ref()).map(|(domain, machine)| place(setup, domain, machine.mac));
    let metadata = domain.as_ref().map(|domain| domain.metadata());
    let profile = machine.as_ref().map(|machine| &machine.profile);
    let profile = profile.or_else(|| Some(&metadata?.current().profile));
    let stem = metadata.map_or_else(|| VolumeStem::from(name), |metadata| metadata.stem.clone());
    let pool = open_pool(setup, &host)?;
    // A chain that is not whole is for `start` to refuse; this shows what there is.
    let chain = domain.as_ref().and_then(|domain| check_chain(&pool, domain).ok());
    let disks = disks(&pool, &stem)?;
    let foreign_images =
        domain.as_ref().map(|domain| foreign::images(&host, &pool, domain)).transpose()?.unwrap_or_default();
    let address = place.and_then(Place::known);
    // Another workspace's guest is not asked.
    let own = up.filter(|_| machine.is_some()).and_then(|_| host.own(name).ok());
    // A guest that stands still runs nothing for anybody who asks.
    let frozen = own.as_ref().is_some_and(|own| own.is_frozen() == Some(true));
    let own = own.filter(|_| !frozen);
    let without_listener =
        own.zip(machine.as_ref()).and_then(|(own, machine)| without_listener(setup, &own, machine, address));
    let lack = place.zip(machine.as_ref()).and_then(|(place, machine)| place.lack(machine));
    Ok(Status {
        name: name.to_string(),
        state,
        frozen,
        address,
        without_listener,
        no_address: lack.map(|lack| lack.why),
        profile: profile.map(ToString::to_string).unwrap_or_default(),
        generation: metadata.map(|m| m.current().number),
        not_carried_out: metadata
            .filter(|_| other_workspace.is_none())
            .and_then(|m| read_not_carried_out(&kept::folder(setup, name, m.current().number)).ok())
            .unwrap_or_default(),
        memory_mib: machine.as_ref().map(|machine| machine.memory.mib()),
        vcpus: machine.as_ref().map(|machine| machine.vcpus.get()),
        guest_vcpus: domain.as_ref().map(|domain| domain.vcpus()).transpose()?,
        network: machine.as_ref().map(|machine| machine.network.to_string()),
        mac_address: machine.as_ref().map(|machine| machine.mac.to_string()),
        pool: setup.pool.clone(),
        connection: setup.connect.clone(),
        disks,
        snapshots: metadata.map_or(0, |metadata| metadata.snapshots.len()),
        chain: chain.map(|chain| chain.len()),
        foreign_images,
        work: work_in_hand(setup, name)?,
        other_workspace,
    })
}

/// Returns the workspace that a domain is of, if that is not this one, wherever this one was moved.
fn whose(setup: &Setup, host: &Hypervisor, domain: &Seen) -> Result<Option<String>> {
    let recorded = domain.metadata();
    let other = ownership::other_workspace(&setup.workspace, recorded, domain.observe()?.id);
    if other.is_none() && recorded.workspace != setup.workspace.as_str() {
        ownership::try_record_move(&setup.workspace, host, domain.name());
    }
    Ok(other)
}

fn work_in_hand(setup: &Setup, name: &MachineName) -> Result<Option<WorkInHand>> {
    Ok(match journal::state(&setup.workspace.work_dir(), name)? {
        WorkState::Idle => None,
        WorkState::AtWork(holder, entry) => Some(WorkInHand {
            place: entry.map_or_else(|| "preparing".into(), |entry| entry.place()),
            command: holder.command.to_string(),
            pid: Some(holder.pid),
        }),
        WorkState::Interrupted(entry) => {
            Some(WorkInHand { place: entry.place(), command: entry.holder.command.to_string(), pid: None })
        }
    })
}

fn disks(pool: &Pool, stem: &VolumeStem) -> Result<Vec<Disk>> {
    let mut disks = Vec::new();
    let own = |volume: &String| volume::parse(volume).is_some_and(|(owner, _)| owner == *stem);
    for volume in pool.volumes()?.into_iter().filter(own) {
        if let Some(usage) = pool.usage(&volume)? {
            disks.push(Disk { volume, capacity: usage.capacity, allocation: usage.allocation });
        }
    }
    Ok(disks)
}
