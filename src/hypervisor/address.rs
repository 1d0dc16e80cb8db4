//! The addresses of a guest's network card, from the guest's agent and from the host.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::json;
use virt::sys;

use super::Seen;
use super::agent::{Return, parse};
use crate::model::MacAddress;

/// The most addresses of one card. All are tried by ssh at the same time, and a guest may name any number.
const MOST: usize = 16;

impl Seen {
    /// Returns the addresses of the network card `mac` according to the guest's agent, IPv4 before IPv6, without those that
    /// another computer cannot use. `None` if the agent does not answer within `patience` seconds, and five more for libvirt
    /// to find the agent.
    ///
    /// Bridges and bonds in the guest with the card's hardware address count as the card.
    pub fn addresses(&self, mac: MacAddress, patience: i32) -> Option<Vec<IpAddr>> {
        let answer = self.ask_within(&json!({ "execute": "guest-network-get-interfaces" }), patience).ok()?;
        let answer: Return<Vec<Interface>> = parse(&answer).ok()?;
        Some(in_order(answer.value.iter().flat_map(|interface| interface.addresses_of(mac)).collect()))
    }

    /// Returns the addresses of the network card `mac` that the host knows: from the leases of libvirt's network, then from
    /// the host's neighbour table.
    ///
    /// They may be from an earlier boot, and while a guest boots they are: the caller must see who answers there.
    pub fn traces(&self, mac: MacAddress) -> Vec<IpAddr> {
        let sources =
            [sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, sys::VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP];
        let known = sources.into_iter().filter_map(|source| self.domain.interface_addresses(source, 0).ok());
        let interfaces = known.flatten().map(|interface| Interface {
            mac: interface.hwaddr,
            addresses: interface.addrs.into_iter().map(|address| Text { text: address.addr }).collect(),
        });
        in_order(interfaces.flat_map(|interface| interface.addresses_of(mac)).collect())
    }
}

/// A network interface of the guest (`GuestNetworkInterface` in QEMU's qga/qapi-schema.json).
#[derive(Deserialize)]
struct Interface {
    #[serde(rename = "hardware-address")]
    mac: Option<String>,
    #[serde(rename = "ip-addresses", default)]
    addresses: Vec<Text>,
}

#[derive(Deserialize)]
struct Text {
    #[serde(rename = "ip-address")]
    text: String,
}

impl Interface {
    fn addresses_of(&self, mac: MacAddress) -> Vec<IpAddr> {
        if self.mac.as_ref().and_then(|text| text.parse::<MacAddress>().ok()) != Some(mac) {
            return Vec::new();
        }
        self.addresses.iter().filter_map(|address| address.text.parse().ok()).filter(reachable).collect()
    }
}

/// Returns the addresses, each once and IPv4 first, at most [`MOST`].
fn in_order(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut ordered: Vec<IpAddr> = Vec::new();
    for ip in addresses.iter().filter(|ip| ip.is_ipv4()).chain(addresses.iter().filter(|ip| ip.is_ipv6())) {
        if ordered.len() < MOST && !ordered.contains(ip) {
            ordered.push(*ip);
        }
    }
    ordered
}

/// Returns whether another computer can use the address without naming an interface.
fn reachable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: &str = "52:54:00:00:00:01";

    /// From qemu-ga 7.2 in a guest with Docker, shortened.
    const ANSWER: &str = r#"{"return": [
        {"name": "lo", "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "127.0.0.1", "prefix": 8}],
         "statistics": {"tx-packets": 1}, "hardware-address": "00:00:00:00:00:00"},
        {"name": "enp1s0", "ip-addresses": [
            {"ip-address-type": "ipv6", "ip-address": "fe80::5054:ff:fe00:1", "prefix": 64},
            {"ip-address-type": "ipv6", "ip-address": "2001:db8::7", "prefix": 64},
            {"ip-address-type": "ipv4", "ip-address": "169.254.1.1", "prefix": 16},
            {"ip-address-type": "ipv4", "ip-address": "192.168.122.9", "prefix": 24}],
         "hardware-address": "52:54:00:00:00:01"},
        {"name": "docker0", "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "172.17.0.1", "prefix": 16}],
         "hardware-address": "02:42:00:00:00:01"},
        {"name": "veth0", "hardware-address": "02:42:00:00:00:02"},
        {"name": "tun0", "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "10.8.0.2", "prefix": 24}]}]}"#;

    fn addresses(answer: &str) -> Vec<String> {
        let answer: Return<Vec<Interface>> = parse(answer).unwrap();
        let mac = MAC.parse().unwrap();
        let found = answer.value.iter().flat_map(|interface| interface.addresses_of(mac)).collect();
        in_order(found).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_of_the_right_card_that_others_can_use_come_from_the_agent() {
        assert_eq!(addresses(ANSWER), ["192.168.122.9", "2001:db8::7"]);
        let six = ANSWER.replace("192.168.122.9", "169.254.7.7");
        assert_eq!(addresses(&six), ["2001:db8::7"]);
        // A bridge in the guest that has the card's hardware address, and the address.
        let bridged = ANSWER.replace("02:42:00:00:00:01", MAC).replace("192.168.122.9", "169.254.7.7");
        assert_eq!(addresses(&bridged), ["172.17.0.1", "2001:db8::7"]);
        assert!(addresses(&ANSWER.replace(MAC, "52:54:00:00:00:02")).is_empty());
    }

    #[test]
    fn an_address_that_is_known_twice_is_one() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let known = ["::7", "10.0.0.7", "10.0.0.8", "10.0.0.7", "::7"].map(ip).to_vec();
        assert_eq!(in_order(known), ["10.0.0.7", "10.0.0.8", "::7"].map(ip));
        let many = (0..u16::MAX).map(|n| IpAddr::from([10, 0, (n >> 8) as u8, n as u8])).collect();
        assert_eq!(in_order(many).len(), MOST);
    }
}
