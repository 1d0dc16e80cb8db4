//! `list`: every machine, at every libvirt of the workspace; `list-machines`: the names.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::config;
use crate::error::{Failure, Result};
use crate::exec::quoted;
use crate::guest::places;
use crate::host::{Call, Setup, ownership, pool_of};
use crate::interrupt;
use crate::model::domain::DomainState;
use crate::model::{Connection, HostLabel, MachineId, MachineName, PoolName};

#[derive(Debug, Clone, Default, Serialize)]
pub struct ListedMachine {
    pub name: String,
    /// `None` where it is only declared.
    pub state: Option<DomainState>,
    pub address: Option<SocketAddr>,
    pub profile: Option<String>,
    pub generation: Option<u32>,
    pub pool: Option<PoolName>,
    /// The host of the file `hosts` that has it, or would have it.
    pub host: Option<HostLabel>,
    /// The libvirt that has it, or would have it.
    pub connection: Connection,
    /// Whether that libvirt did not answer, so that only the machine's files are known.
    pub unreachable: bool,
    /// The workspace that it belongs to, if that is another.
    pub other_workspace: Option<String>,
}

/// A libvirt with machines of the workspace that does not answer.
#[derive(Debug)]
pub struct Unreachable {
    pub connection: Connection,
    pub error: anyhow::Error,
}

#[derive(Debug)]
pub struct Listed {
    pub machines: Vec<ListedMachine>,
    pub unreachable: Vec<Unreachable>,
}

/// How long each of several libvirts may take until it answers; the others' machines are not to wait for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a wait for libvirts checks for a request to stop.
const ATTENTION: Duration = Duration::from_millis(50);

/// Returns every machine that has a domain of nixvm's or is declared in this workspace, at all libvirts where this workspace
/// has one. They are asked at once. One that does not answer is an error only if it is the only one.
pub fn list(call: &Call) -> Result<Listed> {
    let (mut found, mut unreachable) = (Vec::new(), Vec::new());
    let setups = call.hosts()?;
    if let [only] = setups.as_slice() {
        found = at(only, || ())?;
    } else {
        let began = Instant::now();
        let asked: Vec<_> = setups.iter().map(|setup| (setup, ask(setup.clone()))).collect();
        for (setup, answers) in asked {
            match answer(&answers, began)?.unwrap_or_else(|| Err(silent(setup).into())) {
                Ok(domains) => found.extend(domains),
                Err(error) => unreachable.push(Unreachable { connection: setup.connect.clone(), error }),
            }
        }
    }
    let mut machines = each_once(found);
    let setup = call.host();
    for name in declared(setup)? {
        let place = config::place(&setup.workspace, &name)?;
        let home = setups.iter().find(|at| match &place.libvirt {
            Some(libvirt) => at.is_at(libvirt),
            None => at.connect == setup.connect,
        });
        let Some(home) = home else { continue };
        let is_it = |machine: &ListedMachine| {
            machine.name == name.as_str()
                && machine.connection == home.connect
                && machine.other_workspace.is_none()
        };
        if !machines.iter().any(is_it) {
            let profile = config::load(&setup.workspace, &name).ok().map(|m| m.profile.to_string());
            machines.push(ListedMachine {
                name: name.to_string(),
                profile,
                pool: place.pool,
                unreachable: unreachable.iter().any(|host| host.connection == home.connect),
                host: home.host.as_ref().map(|host| host.name.clone()),
                connection: home.connect.clone(),
                ..ListedMachine::default()
            });
        }
    }
    machines.sort_by(|a, b| (&a.name, &a.connection).cmp(&(&b.name, &b.connection)));
    Ok(Listed { machines, unreachable })
}

/// A domain at one libvirt; `at_home` where its machine's files name that libvirt.
struct Found {
    id: MachineId,
    at_home: bool,
    machine: ListedMachine,
}

/// Removes duplicates: two URIs may lead to one libvirt.
fn each_once(mut found: Vec<Found>) -> Vec<ListedMachine> {
    found.sort_by_key(|found| !found.at_home);
    let mut seen = BTreeSet::new();
    found.into_iter().filter(|found| seen.insert(found.id.to_string())).map(|found| found.machine).collect()
}

/// What is heard of a libvirt that is asked on a thread of its own.
enum Answer {
    /// It has listed its domains; their guests may take longer.
    Domains,
    Machines(Result<Vec<Found>>),
}

fn ask(setup: Setup) -> Receiver<Answer> {
    let (tell, hear): (Sender<Answer>, _) = channel();
    std::thread::spawn(move || {
        // Nobody listens any more once `list` has ended without this libvirt.
        let machines = at(&setup, || drop(tell.send(Answer::Domains)));
        tell.send(Answer::Machines(machines))
    });
    hear
}

/// Returns the machines that a libvirt told of; `None` if it has not listed its domains in time.
fn answer(answers: &Receiver<Answer>, began: Instant) -> Result<Option<Result<Vec<Found>>>> {
    let mut answered = false;
    loop {
        interrupt::check()?;
        match answers.recv_timeout(ATTENTION) {
            Ok(Answer::Domains) => answered = true,
            Ok(Answer::Machines(machines)) => return Ok(Some(machines)),
            Err(RecvTimeoutError::Timeout) if answered || began.elapsed() < PATIENCE => {}
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::bug("a thread died while it asked a libvirt").into());
            }
        }
    }
}

fn silent(setup: &Setup) -> Failure {
    let (which, flag) = match &setup.host {
        Some(host) => (format!("the host {host}"), format!("--host {}", host.name)),
        None => (
            format!("libvirt at `{}`", setup.connect),
            format!("--connect {}", quoted(setup.connect.as_str())),
        ),
    };
    Failure::user(format!("{which} does not answer within {} s", PATIENCE.as_secs()))
        .hint(format!("see that its host is up; `nixvm {flag} list` waits longer, and for a password"))
}

/// Returns nixvm's machines at one libvirt; calls `answered` once that has listed its domains.
fn at(setup: &Setup, answered: impl FnOnce()) -> Result<Vec<Found>> {
    let host = setup.hypervisor()?;
    let (mut machines, mut up) = (Vec::new(), Vec::new());
    let domains = host.domains()?;
    answered();
    for domain in domains {
        let Some(metadata) = &domain.metadata else { continue };
        let name = &metadata.machine;
        let other_workspace = ownership::other_workspace(&setup.workspace, metadata, domain.id);
        if other_workspace.is_none() && metadata.workspace != setup.workspace.as_str() {
            ownership::try_record_move(&setup.workspace, &host, name);
        }
        // Which of a domain's addresses is the guest's own stands in the machine's files, here those of another workspace.
        if domain.state.can_answer()
            && other_workspace.is_none()
            && let Ok(seen) = host.see(name)
            && let Ok(machine) = config::load(&setup.workspace, name)
        {
            up.push((machines.len(), (seen, machine.mac)));
        }
        let recorded = other_workspace.is_none().then(|| config::place(&setup.workspace, name));
        let recorded = recorded.and_then(Result::ok).unwrap_or_default();
        let at_home = recorded.libvirt.is_some_and(|libvirt| setup.is_at(&libvirt));
        let machine = ListedMachine {
            name: domain.name.clone(),
            state: Some(domain.state),
            profile: Some(metadata.current().profile.to_string()),
            generation: Some(metadata.current().number),
            pool: recorded.pool.or_else(|| pool_of(&host, name).ok().flatten()),
            host: setup.host.as_ref().map(|host| host.name.clone()),
            connection: setup.connect.clone(),
            other_workspace,
            ..ListedMachine::default()
        };
        machines.push(Found { id: domain.id, at_home, machine });
    }
    let (indices, guests): (Vec<usize>, Vec<_>) = up.into_iter().unzip();
    for (index, address) in indices.into_iter().zip(places(setup, guests)) {
        machines[index].machine.address = address;
    }
    Ok(machines)
}

/// Returns the machines declared in this workspace, by name.
pub fn declared(setup: &Setup) -> Result<Vec<MachineName>> {
    config::list(&setup.workspace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_two_uris_lead_to_is_listed_where_its_files_say() {
        let id = MachineId::generate();
        let at = |connection: &str, id, at_home| Found {
            id,
            at_home,
            machine: ListedMachine {
                name: "web".into(),
                connection: connection.parse().unwrap(),
                ..ListedMachine::default()
            },
        };
        let other = at("qemu:///session", MachineId::generate(), false);
        let found = vec![at("qemu+unix:///system", id, false), at("qemu:///system", id, true), other];
        let listed: Vec<String> =
            each_once(found).iter().map(|machine| machine.connection.to_string()).collect();
        assert_eq!(listed, ["qemu:///system", "qemu:///session"]);
    }
}
