//! Where a guest can be reached.

use std::net::IpAddr;

use virt::domain::Interface;
use virt::sys;

use super::Owned;
use crate::model::MacAddress;

/// Who knows an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The DHCP server of libvirt's network.
    Lease,
    /// The agent in the guest.
    Agent,
    /// The host's neighbour table.
    Arp,
}

/// An address of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Who knows it.
    pub source: Source,
}

impl Owned {
    /// Returns an address of the network card `mac`, IPv4 before IPv6, from the first source that knows one.
    ///
    /// `None` when none does; that a source is missing, as the agent is while the guest boots, is no error.
    pub fn address(&self, mac: MacAddress) -> Option<Address> {
        let sources = [
            (Source::Lease, sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE),
            (Source::Agent, sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT),
            (Source::Arp, sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP),
        ];
        sources.into_iter().find_map(|(source, code)| {
            let interfaces = self.domain.interface_addresses(code, 0).ok()?;
            Some(Address { ip: pick(&interfaces, mac)?, source })
        })
    }
}

fn pick(interfaces: &[Interface], mac: MacAddress) -> Option<IpAddr> {
    let ours = |interface: &&Interface| {
        interface.hwaddr.as_ref().and_then(|text| text.parse::<MacAddress>().ok()) == Some(mac)
    };
    let addresses: Vec<IpAddr> = interfaces
        .iter()
        .filter(ours)
        .flat_map(|interface| &interface.addrs)
        .filter_map(|address| address.addr.parse().ok())
        .filter(reachable)
        .collect();
    addresses.iter().find(|ip| ip.is_ipv4()).or(addresses.first()).copied()
}

/// Returns whether the host can use the address without naming an interface.
fn reachable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use virt::domain::IPAddress;

    fn interface(mac: &str, addresses: &[&str]) -> Interface {
        let addrs: Vec<IPAddress> =
            addresses.iter().map(|addr| IPAddress { typed: 0, addr: addr.to_string(), prefix: 24 }).collect();
        Interface { name: "eth0".into(), hwaddr: Some(mac.into()), naddrs: addrs.len() as u64, addrs }
    }

    #[test]
    fn an_address_others_can_use_on_the_right_card_is_picked() {
        let mac = "52:54:00:00:00:01".parse().unwrap();
        let docker = interface("02:42:00:00:00:01", &["172.17.0.1"]);
        let card =
            interface("52:54:00:00:00:01", &["fe80::1", "2001:db8::7", "169.254.1.1", "192.168.122.9"]);
        assert_eq!(pick(&[docker.clone(), card], mac), Some("192.168.122.9".parse().unwrap()));
        let six = interface("52:54:00:00:00:01", &["fe80::1", "2001:db8::7"]);
        assert_eq!(pick(&[six], mac), Some("2001:db8::7".parse().unwrap()));
        assert_eq!(pick(&[docker], mac), None);
    }
}
