//! Addresses and bridges that are free for a new network.

use std::net::Ipv4Addr;

use crate::hypervisor::VirtualNetwork;
use crate::model::Ipv4Range;

use super::routes::Route;

/// Returns whether a route is more than a default route: 0.0.0.0/0, or one of the two halves of it that VPNs set.
pub(super) fn is_specific(range: Ipv4Range) -> bool {
    range.prefix() >= 8
}

/// Returns the addresses in use: of libvirt's other networks, also of those that are down, and of this host.
pub(super) fn taken(networks: &[VirtualNetwork], routes: &[Route]) -> Vec<Ipv4Range> {
    let defined = networks.iter().flat_map(|network| network.ranges.iter().copied());
    defined.chain(routes.iter().map(|route| route.range)).filter(|range| is_specific(*range)).collect()
}

/// Returns 256 private addresses that are in none of these ranges: libvirt's own 192.168.122.0/24 if that is free.
///
/// A company's VPN may have routes to all private addresses. Then only its narrower routes are avoided: the route to the new
/// network is narrower than the others and so takes precedence.
pub(super) fn free_range(taken: &[Ipv4Range]) -> Ipv4Range {
    let range = |a, b, c| Ipv4Range::around(Ipv4Addr::new(a, b, c, 0), 24);
    let candidates = || {
        let home = (122..=254).chain(2..122).map(move |c| range(192, 168, c));
        let office = (16..=31).rev().flat_map(move |b| (0..=255).map(move |c| range(172, b, c)));
        home.chain(office).chain((0..=255).rev().flat_map(move |b| (0..=255).map(move |c| range(10, b, c))))
    };
    let free = |narrowest: u8| {
        let mut ranges = candidates();
        ranges.find(|range| !taken.iter().any(|taken| taken.prefix() >= narrowest && taken.overlaps(*range)))
    };
    free(0).or_else(|| free(17)).unwrap_or_else(|| range(192, 168, 122))
}

/// Returns libvirt's next name of a bridge that neither a network nor, by `known`, the host has.
pub(super) fn free_bridge(networks: &[VirtualNetwork], known: impl Fn(&str) -> bool) -> String {
    let defined = |name: &str| networks.iter().any(|network| network.bridge.as_deref() == Some(name));
    let mut names = (0..).map(|number| format!("virbr{number}"));
    names.find(|name| !defined(name) && !known(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Ipv4Range {
        text.parse().unwrap()
    }

    #[test]
    fn a_free_range_meets_no_address_of_this_host_wherever_in_it_that_is() {
        let free = |taken: &[&str]| {
            let taken: Vec<Ipv4Range> = taken.iter().map(|text| range(text)).collect();
            free_range(&taken).to_string()
        };
        assert_eq!(free(&[]), "192.168.122.0/24");
        assert_eq!(free(&["192.168.122.77"]), "192.168.123.0/24", "not the first address of the range");
        assert_eq!(free(&["192.168.122.0/23"]), "192.168.124.0/24");
        assert_eq!(free(&["192.168.128.0/17", "192.168.64.0/18"]), "192.168.2.0/24");
        assert_eq!(free(&["192.168.0.0/16"]), "172.31.0.0/24", "a VPN's");
        assert_eq!(free(&["192.168.0.0/16", "172.16.0.0/12"]), "10.255.0.0/24");
        // All that is private is routed to the VPN: one of its narrower routes would be worse.
        let company = ["192.168.0.0/16", "172.16.0.0/12", "10.0.0.0/8", "192.168.122.0/24"];
        assert_eq!(free(&company), "192.168.123.0/24");
    }
}
