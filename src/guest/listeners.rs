//! Ports that a guest's firewall opens although nothing in the guest listens on them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::build::kept;
use crate::file;
use crate::guest::login::ask;
use crate::host::Setup;
use crate::hypervisor::Owned;
use crate::model::Machine;
use crate::render::{MODULE, definitions};

/// How long the guest's agent may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Lists the sockets that wait for anybody: their remote port is 0, and their state 0A (TCP, listening) or 07 (UDP, unconnected).
/// A grep that finds nothing is no failure; a guest without grep is.
const QUESTION: &str = "PATH=$PATH:/run/current-system/sw/bin; cd /proc/net || exit 1; for table in tcp tcp6 udp udp6; do \
    [ -e $table ] || continue; echo $table; grep ':0000 0[7A] ' $table || [ $? = 1 ] || exit 1; done";

/// Ports, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OpenPorts {
    pub tcp: Vec<u16>,
    pub udp: Vec<u16>,
}

impl OpenPorts {
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty()
    }
}

/// Returns the open ports that nothing in the guest listens on; `None` where neither its agent nor its ssh at `at` answers.
pub fn without_listener(
    setup: &Setup,
    domain: &Owned,
    machine: &Machine,
    at: Option<SocketAddr>,
) -> Option<OpenPorts> {
    let by_agent = domain.agent_run(&["/bin/sh", "-c", QUESTION], LIMIT).ok();
    let said = match by_agent.filter(|answer| answer.code == 0) {
        Some(answer) => answer.stdout,
        // A forwarded port is open before the guest answers, and ssh would wait there: too slow for `status`.
        None => ask(machine, setup, &at.filter(|at| !at.ip().is_loopback())?, QUESTION)?,
    };
    let generation = kept::folder(setup, &machine.name, domain.metadata().current().number);
    let open = open(&generation).unwrap_or_else(|| OpenPorts {
        tcp: machine.tcp_ports.as_slice().to_vec(),
        udp: machine.udp_ports.as_slice().to_vec(),
    });
    Some(unheard(&open, &said))
}

/// Returns the ports that a generation's own module opens, whatever the machine's files say by now; `None` if it was not kept.
fn open(generation: &Path) -> Option<OpenPorts> {
    let module = file::read(&generation.join(MODULE)).ok()??;
    let defined = definitions(&module)?;
    // The second name is that of an older nixvm.
    let ports = |option: &str, former: &str| {
        let list =
            defined.get(option).or_else(|| defined.get(former))?.strip_prefix('[')?.strip_suffix(']')?;
        list.split_whitespace().map(|port| port.parse::<u16>().ok()).collect::<Option<Vec<u16>>>()
    };
    Some(OpenPorts {
        tcp: ports("nixvm.tcpPorts", "networking.firewall.allowedTCPPorts")?,
        udp: ports("nixvm.udpPorts", "networking.firewall.allowedUDPPorts")?,
    })
}

/// Returns the ports without a socket in the answer to [`QUESTION`]; sockets that only the guest itself can reach do not count.
fn unheard(open: &OpenPorts, said: &str) -> OpenPorts {
    let (mut tcp, mut udp) = (BTreeSet::new(), BTreeSet::new());
    let mut of = &mut tcp;
    for line in said.lines() {
        match line.trim() {
            "tcp" | "tcp6" => of = &mut tcp,
            "udp" | "udp6" => of = &mut udp,
            socket => of.extend(
                local(socket)
                    .filter(|(address, _)| !address.to_canonical().is_loopback())
                    .map(|(_, port)| port),
            ),
        }
    }
    let without = |ports: &[u16], heard: &BTreeSet<u16>| {
        ports.iter().copied().filter(|port| !heard.contains(port)).collect()
    };
    OpenPorts { tcp: without(&open.tcp, &tcp), udp: without(&open.udp, &udp) }
}

/// Returns the local address and port of a line of `/proc/net/tcp` or the like (proc_pid_net(5)): the second word, both
/// hexadecimal. An address has 32-bit words in the guest's byte order, little-endian on all architectures of nixvm.
fn local(line: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = line.split_whitespace().nth(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_le_bytes);
    let address = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            Ipv6Addr::from(<[u8; 16]>::try_from(words.as_flattened()).ok()?).into()
        }
        _ => return None,
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use crate::exec::Command;
    use crate::model::Generation;
    use crate::model::sample::machine;
    use crate::render::module;

    /// As a guest of `core` with nginx on 8080 and a few things of its own prints it.
    const SAID: &str = "\
tcp
   0: 3600007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   990        0 17425 1 0000000000000000 100 0 0 10 5
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3456 1 0000000000000000 100 0 0 10 0
   2: 0100007F:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3457 1 0000000000000000 100 0 0 10 0
tcp6
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3458 1 0000000000000000 100 0 0 10 0
   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3459 1 0000000000000000 100 0 0 10 0
   2: 0000000000000000FFFF00000100007F:0051 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3460 1 0000000000000000 100 0 0 10 0
udp
  419: 0A00A8C0:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000   998        0 16180 2 0000000000000000 0
udp6
";

    fn ports(tcp: &[u16], udp: &[u16]) -> OpenPorts {
        OpenPorts { tcp: tcp.to_vec(), udp: udp.to_vec() }
    }

    #[test]
    fn ports_count_as_heard_where_others_than_the_guest_reach_the_socket() {
        let open = ports(&[22, 53, 80, 81, 443, 8080], &[22, 68]);
        assert_eq!(unheard(&open, SAID), ports(&[53, 80, 81, 443], &[22]));
        assert!(unheard(&ports(&[22, 8080], &[]), SAID).is_empty());
        assert_eq!(unheard(&open, "tcp\n"), open);
    }

    #[test]
    fn an_address_is_read_in_words() {
        let line = "   0: 0100A8C0:1F90 00000000:0000 0A";
        assert_eq!(local(line), Some(("192.168.0.1".parse().unwrap(), 8080)));
        let line = "   0: B80D0120000000000000000001000000:0016 00000000000000000000000000000000:0000 0A";
        assert_eq!(local(line), Some(("2001:db8::1".parse().unwrap(), 22)));
        for bad in [
            "",
            "tcp",
            "0: 0100A8C0",
            "0: 0100A8C0:10000 ",
            "0: 0100A8:16",
            "0: zzzzzzzz:0016",
            "0: é00007F:0016",
        ] {
            assert_eq!(local(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_kernel_answers_the_question() {
        let outside = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let inside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let datagrams =
            std::net::UdpSocket::bind("[::]:0").or_else(|_| std::net::UdpSocket::bind("0.0.0.0:0")).unwrap();
        let [heard, unreached] = [&outside, &inside].map(|socket| socket.local_addr().unwrap().port());
        let udp = datagrams.local_addr().unwrap().port();
        let said = Command::new("sh").args(["-c", QUESTION]).output().unwrap();
        let open = ports(&[heard, unreached], &[udp]);
        assert_eq!(unheard(&open, &String::from_utf8(said).unwrap()), ports(&[unreached], &[]));
    }

    #[test]
    fn the_generation_that_runs_says_which_ports_are_open() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(open(dir.path()), None);
        let generation = Generation { number: 1, digest: "d".repeat(64) };
        let module = module(&machine(), &generation);
        fs::write(dir.path().join("default.nix"), module.unwrap()).unwrap();
        assert_eq!(open(dir.path()).unwrap().tcp, [22, 80, 443]);
    }
}
