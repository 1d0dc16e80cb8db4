//! `status`: everything about one machine.

use std::net::SocketAddr;

use serde::Serialize;

use crate::config;
use crate::error::Result;
use crate::hypervisor::{Hypervisor, Owned};
use crate::journal::{self, State};
use crate::model::MachineName;
use crate::model::domain::DomainState;
use crate::model::record::Metadata;
use crate::model::volume::{self, VolumeStem};
use crate::storage::Pool;
use crate::storage::image::read_not_carried_out;

use super::address::{Place, place};
use super::deploy::open_pool;
use super::layers::check_chain;
use super::{Setup, kept, ownership};

/// One machine, as declared and as observed.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its domain's state; `None` where it is only declared.
    pub state: Option<DomainState>,
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
    /// Memory in MiB, as declared.
    pub memory_mib: u64,
    /// Virtual CPUs, as declared.
    pub vcpus: u32,
    /// Virtual CPUs of its guest: others than declared until the next start, and one while it is emulated. `None` where it is
    /// only declared.
    pub guest_vcpus: Option<u32>,
    /// The network, as declared.
    pub network: String,
    /// Its hardware address.
    pub mac_address: String,
    /// Its volumes.
    pub disks: Vec<Disk>,
    /// How many snapshots it has.
    pub snapshots: usize,
    /// How many layers its data disk lies on, itself among them; `None` where it has no domain or one of them is missing.
    pub chain: Option<usize>,
    /// The workspace that made the domain, if it is not this one.
    pub other_workspace: Option<String>,
    /// What is being done to the machine, or was cut short.
    pub work: Option<WorkInHand>,
}

/// A command's work on a machine that is not at its end.
#[derive(Debug, Clone, Serialize)]
pub struct WorkInHand {
    /// The command.
    pub command: String,
    /// Where it stands, in words.
    pub place: String,
    /// The process that is at it; `None` where it was cut short.
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

/// Returns the state of a machine.
///
/// # Errors
/// There is no such machine, its files are not valid, or libvirt does not answer.
pub fn status(setup: &Setup, name: &MachineName) -> Result<Status> {
    let host = setup.hypervisor()?;
    let known = host.find(name)?.is_some() || !config::exists(&setup.workspace, name);
    let domain = if known { Some(host.own(name)?) } else { None };
    let machine = config::load(&setup.workspace, name)?;
    let state = domain.as_ref().map(Owned::state).transpose()?;
    let up = domain.as_ref().filter(|_| state.is_some_and(DomainState::can_answer));
    let place = up.map(|domain| place(setup, domain, machine.mac));
    let metadata = domain.as_ref().map(Owned::metadata);
    let stem = metadata.map_or_else(|| VolumeStem::from(name), |metadata| metadata.stem.clone());
    let pool = open_pool(setup, &host)?;
    // A chain that is not whole is for `start` to refuse; this shows what there is.
    let chain = domain.as_ref().and_then(|domain| check_chain(&pool, domain).ok());
    let disks = disks(&pool, &stem)?;
    Ok(Status {
        name: name.to_string(),
        state,
        address: place.and_then(Place::known),
        no_address: place.and_then(|place| place.lack(&machine)).map(|lack| lack.why),
        profile: machine.profile.to_string(),
        generation: metadata.map(|m| m.current().number),
        not_carried_out: metadata
            .and_then(|m| read_not_carried_out(&kept::folder(setup, name, m.current().number)).ok())
            .unwrap_or_default(),
        memory_mib: machine.memory.mib(),
        vcpus: machine.vcpus.get(),
        guest_vcpus: domain.as_ref().map(Owned::vcpus).transpose()?,
        network: machine.network.to_string(),
        mac_address: machine.mac.to_string(),
        disks,
        snapshots: metadata.map_or(0, |metadata| metadata.snapshots.len()),
        chain: chain.map(|chain| chain.len()),
        work: work_in_hand(setup, name)?,
        other_workspace: other_workspace(setup, &host, name, metadata)?,
    })
}

/// Returns the workspace that a domain is of, if that is not this one, wherever this one was moved.
fn other_workspace(
    setup: &Setup,
    host: &Hypervisor,
    name: &MachineName,
    metadata: Option<&Metadata>,
) -> Result<Option<String>> {
    let (Some(metadata), Some(found)) = (metadata, host.find(name)?) else { return Ok(None) };
    let ours = ownership::is_ours(setup, metadata, found.id);
    if ours && metadata.workspace != setup.workspace.as_str() {
        ownership::notice(setup, host, name);
    }
    Ok((!ours).then(|| metadata.workspace.clone()))
}

fn work_in_hand(setup: &Setup, name: &MachineName) -> Result<Option<WorkInHand>> {
    Ok(match journal::state(&setup.workspace.work_dir(), name)? {
        State::Idle => None,
        State::AtWork(holder, entry) => Some(WorkInHand {
            place: entry.map_or_else(|| "preparing".into(), |entry| entry.place()),
            command: holder.command,
            pid: Some(holder.pid),
        }),
        State::CutShort(entry) => {
            Some(WorkInHand { place: entry.place(), command: entry.holder.command, pid: None })
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
