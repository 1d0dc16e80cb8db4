//! Where a guest's ssh is reached, as seen from the host that runs it.
//!
//! The guest itself knows its address, and tells it through its agent. A lease may be of an earlier boot, or of a card that has
//! a fixed address by now, and so may an entry of the neighbour table: for these, an answer of ssh decides.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::guest::Jump;
use crate::host::Setup;
use crate::hypervisor::Seen;
use crate::model::{MacAddress, Machine, Network};

/// Seconds that an agent gets to name its guest's addresses.
const PATIENCE: i32 = 5;

/// How long a list waits for all agents together. libvirt takes five seconds for one that hangs.
const LIST_PATIENCE: Duration = Duration::from_secs(1);

/// How many agents a list asks at a time: libvirtd works on five calls of a connection at a time (`max_client_requests` of
/// libvirtd.conf), and hanging calls must leave one.
const ASKED_AT_A_TIME: usize = 4;

/// How long a list waits for the port of ssh to open at a possible address of a guest. It does not wait for the banner, for which
/// an emulated guest needs longer: no other guest can have got the address meanwhile.
const LIST_ANSWER: Duration = Duration::from_secs(1);

/// How long an ssh server gets for its banner.
///
/// A slow guest needs it: sshd(8) locks out for a while a client that often connects and leaves without logging in
/// (`PerSourcePenalties` of sshd_config(5)), and on QEMU's user network everybody connects from one address.
const ANSWER: Duration = Duration::from_secs(15);

/// Where a guest is reached, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Its agent says so, or its ssh answers there.
    At(SocketAddr),
    /// It is up, but its network card has no address that another computer could use.
    Nowhere,
    /// It boots, or neither its agent nor an ssh server answers.
    Unknown,
}

impl Place {
    pub fn known(self) -> Option<SocketAddr> {
        match self {
            Place::At(at) => Some(at),
            Place::Nowhere | Place::Unknown => None,
        }
    }

    /// Returns why a machine has no address and what to do; `None` where it has one.
    pub fn lack(self, machine: &Machine) -> Option<Lack> {
        let name = &machine.name;
        let console = format!("`nixvm console {name}` needs no address");
        let (why, hint) = match (self, &machine.network) {
            (Place::At(_), _) => return None,
            (Place::Unknown, _) => (
                "it may still be booting: neither its guest agent nor ssh at its last known addresses answers".into(),
                format!("`nixvm start {name} --wait` waits for it, `nixvm console {name}` shows it"),
            ),
            (Place::Nowhere, Network::Bridge(bridge)) => (
                format!("its guest is up, but no DHCP server answers it on the bridge `{bridge}`"),
                format!(
                    "connect `{bridge}` to a network with a DHCP server, or give the guest a fixed address in machines/{name}/extra.nix (docs/networking.md shows one); {console}"
                ),
            ),
            (Place::Nowhere, Network::Nat | Network::User) => (
                "its guest is up, but no DHCP server answers it".into(),
                format!("`nixvm doctor` checks libvirt's network `default`; {console}"),
            ),
        };
        Some(Lack { why, hint })
    }
}

/// Why a machine has no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// Why, as the end of "web has no address: ".
    pub why: String,
    pub hint: String,
}

/// Returns the address of a machine that is up.
pub fn place(setup: &Setup, domain: &Seen, mac: MacAddress) -> Place {
    locate(setup, domain, mac, false)
}

/// Returns the address at which the ssh of a machine that is up answers; [`Place::Unknown`] if it does not, or not yet.
pub fn answering(setup: &Setup, domain: &Seen, mac: MacAddress) -> Place {
    locate(setup, domain, mac, true)
}

/// Returns the address of a machine. An address that its agent names needs no answer of ssh, unless `answers` asks for one.
fn locate(setup: &Setup, domain: &Seen, mac: MacAddress, answers: bool) -> Place {
    let (candidates, certain) = match forwarded(domain) {
        Some(at) => (vec![at], true),
        None => match domain.addresses(mac, PATIENCE) {
            Some(addresses) if addresses.is_empty() => return Place::Nowhere,
            Some(addresses) => (at_ssh(&addresses), true),
            None => (at_ssh(&domain.traces(mac)), false),
        },
    };
    let otherwise = candidates.first().copied().filter(|_| certain && !answers);
    match otherwise {
        Some(only) if candidates.len() == 1 => Place::At(only),
        _ => first_answering(setup, &candidates).or(otherwise).map_or(Place::Unknown, Place::At),
    }
}

/// Returns the address of each of these machines, which are up, as far as two seconds suffice to find out.
pub fn places(setup: &Setup, machines: Vec<(Seen, MacAddress)>) -> Vec<Option<SocketAddr>> {
    let machines = Arc::new(machines);
    let (say, hear) = mpsc::channel();
    let next = Arc::new(Mutex::new(0..machines.len()));
    // The threads are not joined: a hanging call must not delay the list.
    for _ in 0..ASKED_AT_A_TIME.min(machines.len()) {
        let (machines, next, say) = (Arc::clone(&machines), Arc::clone(&next), say.clone());
        std::thread::spawn(move || {
            let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
            while let Some(index) = take() {
                let (domain, mac) = &machines[index];
                let by_agent = || domain.addresses(*mac, 1).and_then(|ips| at_ssh(&ips).first().copied());
                let place = forwarded(domain).or_else(by_agent);
                if say.send((index, place)).is_err() {
                    return;
                }
            }
        });
    }
    drop(say);
    let began = Instant::now();
    let mut places = vec![None; machines.len()];
    while let Ok((index, place)) = hear.recv_timeout(LIST_PATIENCE.saturating_sub(began.elapsed())) {
        places[index] = place;
    }
    // Through another host, each question would be a login there.
    if Jump::of(setup).is_none() {
        std::thread::scope(|scope| {
            for ((domain, mac), place) in machines.iter().zip(&mut places).filter(|(_, p)| p.is_none()) {
                let traces = at_ssh(&domain.traces(*mac));
                let opens = |at: &SocketAddr| TcpStream::connect_timeout(at, LIST_ANSWER).is_ok();
                scope.spawn(move || *place = traces.into_iter().find(opens));
            }
        });
    }
    places
}

/// Returns the host's port that is forwarded to the guest's ssh: the address of a guest on QEMU's user network means nothing.
fn forwarded(domain: &Seen) -> Option<SocketAddr> {
    domain.ssh_port().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn at_ssh(addresses: &[IpAddr]) -> Vec<SocketAddr> {
    addresses.iter().map(|ip| SocketAddr::new(*ip, 22)).collect()
}

/// Returns the first of these at which an ssh server answers. All are asked at once: an unused address takes the whole time.
fn first_answering(setup: &Setup, candidates: &[SocketAddr]) -> Option<SocketAddr> {
    if let [only] = candidates {
        return Some(*only).filter(|at| answers_ssh(setup, at));
    }
    let (say, hear) = mpsc::channel();
    for at in candidates.iter().copied() {
        let (setup, say) = (setup.clone(), say.clone());
        std::thread::spawn(move || answers_ssh(&setup, &at).then(|| say.send(at)));
    }
    drop(say);
    hear.recv().ok()
}

/// Returns whether an ssh server sends its banner there. A forwarded port alone is open as soon as QEMU runs.
fn answers_ssh(setup: &Setup, endpoint: &SocketAddr) -> bool {
    if let Some(jump) = Jump::of(setup) {
        return jump.to(endpoint).output_within(ANSWER).is_ok_and(|said| said.starts_with(b"SSH-"));
    }
    let banner = || {
        let mut stream = TcpStream::connect_timeout(endpoint, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut banner = [0; 4];
        stream.read_exact(&mut banner).map(|()| banner)
    };
    banner().is_ok_and(|banner: [u8; 4]| banner == *b"SSH-")
}
