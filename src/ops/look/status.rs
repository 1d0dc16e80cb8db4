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
use crate::model::volume::VolumeStem;
use crate::model::{Connection, HostLabel, MachineName, PoolName};
use crate::nix::image::read_not_carried_out;
use crate::storage::Pool;

#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub name: String,
    /// `None` where it is only declared.
    pub state: Option<DomainState>,
    /// Whether its guest's file systems are frozen, as for a backup: processes that write there wait.
    pub frozen: bool,
    pub address: Option<SocketAddr>,
    /// Why it has no address though it runs.
    pub no_address: Option<String>,
    pub profile: String,
    pub generation: Option<u32>,
    /// Options and packages that this generation lacks; empty also where the workspace does not know.
    pub not_carried_out: Vec<String>,
    /// As declared; this and other declared values are `None` for another workspace's machine.
    pub memory_mib: Option<u64>,
    pub vcpus: Option<u32>,
    /// Differs from `vcpus` until the next start, and is 1 while the guest is emulated. `None` where it is only declared.
    pub guest_vcpus: Option<u32>,
    pub network: Option<String>,
    /// Ports that its firewall opens and no process in the guest listens on; `None` where the guest does not say.
    pub without_listener: Option<OpenPorts>,
    pub mac_address: Option<String>,
    /// Whether libvirt starts it together with its host; as declared where it has no domain.
    pub autostart: bool,
    /// The machines that are to answer before this one starts.
    pub after: Vec<MachineName>,
    /// Whether commands that delete its data are refused; `false` for another workspace's machine.
    pub protect: bool,
    pub pool: PoolName,
    /// The host of the file `hosts`, if its files name one.
    pub host: Option<HostLabel>,
    pub connection: Connection,
    pub disks: Vec<Disk>,
    pub snapshots: usize,
    /// Layers in its data disk's chain, itself included; `None` where it has no domain or a layer is missing.
    pub chain: Option<usize>,
    /// Files of another tool's that its disks write to.
    pub foreign_images: Vec<String>,
    /// The workspace that it belongs to, if that is another.
    pub other_workspace: Option<String>,
    /// The command that works on it now, or was interrupted.
    pub work: Option<WorkInHand>,
}

#[derive(Debug, Clone, Serialize)]
pub struct WorkInHand {
    pub command: String,
    /// Its current step, in words.
    pub place: String,
    /// `None` where it was interrupted.
    pub pid: Option<u32>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Disk {
    pub volume: String,
    /// Bytes that the guest sees.
    pub capacity: u64,
    /// Bytes that it takes on the host.
    pub allocation: u64,
}

/// Returns the state of a machine. For another workspace's, only the domain is read.
pub fn status(setup: &Setup, name: &MachineName) -> Result<Status> {
    let host = setup.hypervisor()?;
    let known = host.find(name)?.is_some() || !config::exists(&setup.workspace, name);
    let domain = if known { Some(host.see(name)?) } else { None };
    let other_workspace = domain.as_ref().map(|domain| whose(setup, &host, domain)).transpose()?.flatten();
    let machine = if other_workspace.is_none() { Some(config::load(&setup.workspace, name)?) } else { None };
    let state = domain.as_ref().map(|domain| domain.state()).transpose()?;
    let up = domain.as_ref().filter(|_| state.is_some_and(DomainState::can_answer));
    let place = up.zip(machine.as_ref()).map(|(domain, machine)| place(setup, domain, machine.mac));
    let metadata = domain.as_ref().map(|domain| domain.metadata());
    let profile = machine.as_ref().map(|machine| &machine.profile);
    let profile = profile.or_else(|| Some(&metadata?.current().profile));
    let stem = metadata.map_or_else(|| VolumeStem::from(name), |metadata| metadata.stem.clone());
    let pool = open_pool(setup, &host)?;
    // `start` refuses a chain that is not whole; `status` shows the rest.
    let chain = domain.as_ref().and_then(|domain| check_chain(&pool, domain).ok());
    let disks = disks(&pool, &stem)?;
    let foreign_images =
        domain.as_ref().map(|domain| foreign::images(&host, &pool, domain)).transpose()?.unwrap_or_default();
    let address = place.and_then(Place::known);
    // Only this workspace's guests are asked.
    let own = up.filter(|_| machine.is_some()).and_then(|_| host.own(name).ok());
    // A frozen guest cannot run the command that lists its ports.
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
        autostart: match (&domain, &machine) {
            (Some(domain), _) => domain.autostart()?,
            (None, machine) => machine.as_ref().is_some_and(|machine| machine.autostart),
        },
        after: machine.as_ref().map(|machine| machine.after.clone()).unwrap_or_default(),
        protect: machine.as_ref().is_some_and(|machine| machine.protect),
        pool: setup.pool.clone(),
        host: setup.host.as_ref().map(|host| host.name.clone()),
        connection: setup.connect.clone(),
        disks,
        snapshots: metadata.map_or(0, |metadata| metadata.snapshots.len()),
        chain: chain.map(|chain| chain.len()),
        foreign_images,
        work: work_in_hand(setup, name)?,
        other_workspace,
    })
}

/// Returns the workspace that a domain belongs to, if that is another; this one may have been moved.
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
    for volume in pool.volumes_of(stem)? {
        if let Some(usage) = pool.usage(&volume)? {
            disks.push(Disk { volume, capacity: usage.capacity, allocation: usage.allocation });
        }
    }
    Ok(disks)
}
