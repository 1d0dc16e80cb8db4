//! The port of the host at which a machine without an address of its own is reached.

use std::net::{Ipv4Addr, TcpListener};

use ssh_key::rand_core::{OsRng, RngCore};

use crate::error::Result;
use crate::hypervisor::Hypervisor;
use crate::model::Network;

/// Returns the port of the host's loopback for a network without an address of its own, `None` for the others: the last one, if it is free.
pub fn ssh_port(host: &Hypervisor, network: &Network, last: Option<u16>) -> Result<Option<u16>> {
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
