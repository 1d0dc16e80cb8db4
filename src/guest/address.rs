//! Where a guest's ssh is reached, as seen from the host that runs it.
//!
//! The guest itself knows, and says so through its agent. A lease may be of an earlier boot, or of a card that has a fixed
//! address by now, and so may the neighbour table: there, what answers decides.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::guest::Jump;
use crate::host::Setup;
use crate::hypervisor::Seen;
use crate::model::{MacAddress, Machine, Network};

/// Seconds that a guest's agent is given to name its addresses.
const PATIENCE: i32 = 5;

/// How long a list waits for all agents together. One that hangs takes libvirt five seconds.
const LIST_PATIENCE: Duration = Duration::from_secs(1);

/// How many agents a list asks at a time: libvirtd works on five calls of a connection at a time (`max_client_requests` of
/// libvirtd.conf), and those that hang must leave one.
const ASKED_AT_A_TIME: usize = 4;

/// How long a list waits for the port of ssh to open at what may be a guest's address. An emulated guest needs longer for the
/// banner, and nobody was lent the address meanwhile.
const LIST_ANSWER: Duration = Duration::from_secs(1);

/// How long an ssh server is given for its banner.
///
/// A slow guest needs it: sshd(8) keeps out for a while who often comes and leaves without logging in
/// (`PerSourcePenalties` of sshd_config(5)), and on QEMU's user network everybody comes from one address.
const ANSWER: Duration = Duration::from_secs(15);

/// What is known of where a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// There: its agent says so, or its ssh answers there.
    At(SocketAddr),
    /// It is up, and its network card has no address that another computer could use.
    Nowhere,
    /// Nobody knows: it boots, or has neither an agent nor an ssh server that answers.
    Unknown,
}

impl Place {
    /// Returns where it is, if that is known.
    pub fn known(self) -> Option<SocketAddr> {
        match self {
            Place::At(at) => Some(at),
            Place::Nowhere | Place::Unknown => None,
        }
    }

    /// Returns in words why a machine has no address and what helps; `None` where it has one.
    pub fn lack(self, machine: &Machine) -> Option<Lack> {
        let name = &machine.name;
        let console = format!("`nixvm console {name}` needs no address");
        Some(match (self, &machine.network) {
            (Place::At(_), _) => return None,
            (Place::Unknown, _) => Lack {
                why: "it may still be booting: no agent in it answers, and no ssh at an address that it had"
                    .into(),
                hint: format!("`nixvm start {name} --wait` waits, `nixvm console {name}` shows it"),
            },
            (Place::Nowhere, Network::Bridge(bridge)) => Lack {
                why: format!("its guest is up, and nobody answers its DHCP on the bridge `{bridge}`"),
                hint: format!(
                    "let a DHCP server serve `{bridge}`, or give the guest a fixed address in machines/{name}/extra.nix (docs/networking.md shows one); {console}"
                ),
            },
            (Place::Nowhere, Network::Nat | Network::User) => Lack {
                why: "its guest is up, and nobody answers its DHCP".into(),
                hint: format!("`nixvm doctor` looks at libvirt's network `default`; {console}"),
            },
        })
    }
}

/// Why a machine has no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// Why, as the end of "web has no address: ".
    pub why: String,
    /// What to do.
    pub hint: String,
}

/// Returns where a machine that is up is.
pub fn place(setup: &Setup, domain: &Seen, mac: MacAddress) -> Place {
    match forwarded(domain) {
        Some(at) => Place::At(at),
        None => match domain.addresses(mac, PATIENCE) {
            Some(addresses) => of_agent(setup, &addresses),
            None => first_answering(setup, &at_ssh(&domain.traces(mac))).map_or(Place::Unknown, Place::At),
        },
    }
}

/// Returns where the ssh of a machine that is up answers; [`Place::Unknown`] where it does not, or not yet.
pub fn answering(setup: &Setup, domain: &Seen, mac: MacAddress) -> Place {
    let candidates = match forwarded(domain) {
        Some(at) => vec![at],
        None => match domain.addresses(mac, PATIENCE) {
            Some(addresses) if addresses.is_empty() => return Place::Nowhere,
            known => at_ssh(&known.unwrap_or_else(|| domain.traces(mac))),
        },
    };
    first_answering(setup, &candidates).map_or(Place::Unknown, Place::At)
}

/// Returns where each of these machines that are up is, as far as that can be told in two seconds.
pub fn places(setup: &Setup, machines: Vec<(Seen, MacAddress)>) -> Vec<Option<SocketAddr>> {
    let machines = Arc::new(machines);
    let (say, hear) = mpsc::channel();
    let next = Arc::new(Mutex::new(0..machines.len()));
    // Not joined: a call that hangs is left to itself.
    for _ in 0..ASKED_AT_A_TIME.min(machines.len()) {
        let (machines, next, say) = (Arc::clone(&machines), Arc::clone(&next), say.clone());
        std::thread::spawn(move || {
            let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
            while let Some(index) = take() {
                let (domain, mac) = &machines[index];
                let place = match forwarded(domain) {
                    Some(at) => Some(at),
                    None => domain.addresses(*mac, 1).and_then(|ips| at_ssh(&ips).first().copied()),
                };
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
    // Through another host each question is a login there.
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

/// Returns the port of the host that is forwarded to the guest's ssh, where one is: on QEMU's user network the guest's own
/// address means nothing outside it.
fn forwarded(domain: &Seen) -> Option<SocketAddr> {
    domain.metadata().ssh_port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// Returns where a guest is whose agent names these addresses of its card: of several, at one that answers, or else the first.
fn of_agent(setup: &Setup, addresses: &[IpAddr]) -> Place {
    let candidates = at_ssh(addresses);
    match candidates.as_slice() {
        [] => Place::Nowhere,
        [at] => Place::At(*at),
        [first, ..] => Place::At(first_answering(setup, &candidates).unwrap_or(*first)),
    }
}

fn at_ssh(addresses: &[IpAddr]) -> Vec<SocketAddr> {
    addresses.iter().map(|ip| SocketAddr::new(*ip, 22)).collect()
}

/// Returns the first of these where an ssh server answers; all are asked at once, for one where nobody is takes its whole time.
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

/// Returns whether an ssh server answers there.
///
/// A forwarded port is open as soon as QEMU runs; only the banner shows that the guest is there.
fn answers_ssh(setup: &Setup, endpoint: &SocketAddr) -> bool {
    match Jump::of(setup) {
        Some(jump) => jump.to(endpoint).output_within(ANSWER).is_ok_and(|said| said.starts_with(b"SSH-")),
        None => has_banner(endpoint, ANSWER),
    }
}

fn has_banner(endpoint: &SocketAddr, limit: Duration) -> bool {
    let mut banner = [0; 4];
    TcpStream::connect_timeout(endpoint, limit)
        .and_then(|mut stream| {
            stream.set_read_timeout(Some(limit)).and_then(|()| stream.read_exact(&mut banner))
        })
        .is_ok_and(|()| banner == *b"SSH-")
}
