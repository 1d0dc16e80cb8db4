//! The port of the host that forwards to a guest's ssh, for machines without an address of their own.

use std::net::{Ipv4Addr, TcpListener};

use ssh_key::rand_core::{OsRng, RngCore};

use crate::error::Result;
use crate::hypervisor::Hypervisor;
use crate::model::Network;

/// Returns a free port of the host's loopback for a machine on QEMU's user network: the last one, if it is still free. `None`
/// for other networks, where guests have addresses of their own.
pub fn ssh_port(host: &Hypervisor, network: &Network, last: Option<u16>) -> Result<Option<u16>> {
    if *network != Network::User {
        return Ok(None);
    }
    if !host.is_local() {
        let taken: Vec<u16> =
            host.domains()?.into_iter().filter_map(|domain| domain.metadata?.ssh_port).collect();
        return Ok(Some(unused_port(&taken, OsRng.next_u32())));
    }
    let bound = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = last.and_then(|port| bound(port).ok()).map_or_else(|| bound(0), Ok)?;
    Ok(Some(listener.local_addr()?.port()))
}

/// Returns a port that none of another host's machines has; whether another program has it cannot be seen from here.
///
/// `random` makes it another one at each start: if something else has this port, the next try does not meet it again.
fn unused_port(taken: &[u16], random: u32) -> u16 {
    // Below the ports that Linux uses for outgoing connections (`net.ipv4.ip_local_port_range`).
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
        assert_eq!(unused_port(&[], 0), 20_000);
        assert_eq!(unused_port(&[20_000, 20_001], 0), 20_002);
        assert_eq!(unused_port(&[32_767], u32::MAX - u32::MAX % 12_768 - 1), 20_000);
    }
}
