//! libvirt's network `default`: creates it where it is missing, and finds what is wrong with it.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::error::{Explain, Failure, Result};
use crate::exec;
use crate::host::Watch;
use crate::hypervisor::{Hypervisor, VirtualNetwork};
use crate::model::{Ipv4Range, Network};
use crate::render;

use super::free::{free_bridge, free_range, is_specific, taken};
use super::routes::{Route, routes_of};

/// The network that `nat` stands for.
pub const DEFAULT: &str = "default";

/// What is wrong with a network, and the command that changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub finding: String,
    pub fix: String,
}

pub fn ensure_network(host: &Hypervisor, network: &Network) -> Result<()> {
    if *network != Network::Nat {
        return check_bridge(host, network);
    }
    let ensured = host.ensure_network(DEFAULT, || {
        let others = host.networks()?;
        let known = |bridge: &str| host.is_local() && interface(bridge).exists();
        render::network_xml(&free_bridge(&others, known), free_range(&taken(&others, &routes_of(host))))
    });
    ensured.map(drop).or_else(|error| match faults(host).into_iter().flatten().next() {
        Some(Fault { finding, fix }) => {
            Err(error).explain(|| Failure::user(format!("libvirt's network `{DEFAULT}` {finding}")).hint(fix))
        }
        None => Err(error),
    })
}

/// Checks that the bridge of a bridged network is there, as far as that can be seen from this host.
pub fn check_bridge(host: &Hypervisor, network: &Network) -> Result<()> {
    match network {
        Network::Bridge(name) if host.is_local() && !interface(name.as_str()).join("bridge").is_dir() => {
            Err(Failure::user(format!("this host has no bridge `{name}`"))
                .hint("list bridges with `ip -br link show type bridge`; docs/networking.md shows how to create one")
                .into())
        }
        _ => Ok(()),
    }
}

fn interface(name: &str) -> std::path::PathBuf {
    Path::new("/sys/class/net").join(name)
}

pub fn note_faults(host: &Hypervisor, network: &Network, watch: &dyn Watch) -> Result<()> {
    if *network == Network::Nat {
        for Fault { finding, fix } in faults(host)? {
            watch.note(&format!("libvirt's network `{DEFAULT}` {finding}; to fix it: {fix}"));
        }
    }
    Ok(())
}

/// Returns what is wrong with the network `default`; nothing if there is no such network.
pub fn faults(host: &Hypervisor) -> Result<Vec<Fault>> {
    let networks = host.networks()?;
    let Some(network) = networks.iter().find(|network| network.name == DEFAULT) else {
        return Ok(Vec::new());
    };
    let virsh = format!("virsh -c {}", exec::quoted(host.uri()));
    let clash = clash(network, &networks, &routes_of(host), &virsh);
    Ok(no_dhcp(network, &virsh).into_iter().chain(clash).collect())
}

/// Returns the fault of a network without DHCP. On a bridge of the host's, the LAN assigns the addresses.
fn no_dhcp(network: &VirtualNetwork, virsh: &str) -> Option<Fault> {
    let own = network.forward.as_deref().is_none_or(|mode| ["nat", "route", "open"].contains(&mode));
    if network.dhcp || !own {
        return None;
    }
    let fix = if let (Some(address), Some(range)) = (network.address, network.ranges.first()) {
        let last = Ipv4Addr::from_bits(range.last().to_bits().saturating_sub(1));
        let first = Ipv4Addr::from_bits(address.to_bits().saturating_add(1));
        let live = if network.runs { " --live" } else { "" };
        format!(
            "{virsh} net-update {DEFAULT} add ip-dhcp-range \"<range start='{first}' end='{last}'/>\"{live} --config"
        )
    } else {
        format!("{virsh} net-edit {DEFAULT}, and give it an <ip> with <dhcp> as docs/networking.md shows")
    };
    Some(Fault { finding: "has no DHCP, so its guests get no address".to_owned(), fix })
}

/// Returns the fault of a network with addresses that this host reaches through another interface.
fn clash(network: &VirtualNetwork, all: &[VirtualNetwork], routes: &[Route], virsh: &str) -> Option<Fault> {
    let bridge = network.bridge.as_deref();
    let elsewhere = |route: &&Route| Some(route.device.as_str()) != bridge && is_specific(route.range);
    let (range, route) = network.ranges.iter().find_map(|range| {
        let route = routes.iter().filter(elsewhere).find(|route| route.range.overlaps(*range))?;
        Some((range, route))
    })?;
    let others: Vec<VirtualNetwork> =
        all.iter().filter(|other| other.name != network.name).cloned().collect();
    let free = free_range(&taken(&others, routes));
    let change = if range.prefix() == 24 {
        let beginning = |range: Ipv4Range| range.to_string().trim_end_matches("0/24").to_owned();
        let (old, new) = (beginning(*range).replace('.', "\\."), beginning(free));
        format!(
            "{virsh} net-dumpxml --inactive {DEFAULT} | sed 's/{old}/{new}/g' | {virsh} net-define /dev/stdin;"
        )
    } else {
        format!("{virsh} net-edit {DEFAULT}, and give it the addresses of {free}; then")
    };
    Some(Fault {
        finding: format!(
            "has the addresses of {range}, but this host reaches {} through `{}`",
            route.range, route.device
        ),
        fix: format!(
            "with its machines off: {change} {virsh} net-destroy {DEFAULT}; {virsh} net-start {DEFAULT}"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::subnet::routes::tests::route;

    fn default_network(of: &str) -> VirtualNetwork {
        let range: Ipv4Range = of.parse().unwrap();
        VirtualNetwork {
            name: DEFAULT.into(),
            bridge: Some("virbr0".into()),
            forward: Some("nat".into()),
            address: Some(range.address(1)),
            ranges: vec![range],
            dhcp: true,
            runs: true,
        }
    }

    #[test]
    fn a_default_route_takes_nothing() {
        let routes = [route("0.0.0.0/1", "tun0"), route("128.0.0.0/1", "tun0"), route("0.0.0.0/0", "eth0")];
        assert_eq!(taken(&[], &routes), []);
        assert_eq!(clash(&default_network("192.168.122.0/24"), &[], &routes, "virsh"), None);
    }

    #[test]
    fn networks_that_are_down_keep_their_ranges_and_bridges() {
        let down = VirtualNetwork { runs: false, ..default_network("192.168.122.0/24") };
        assert_eq!(free_range(&taken(std::slice::from_ref(&down), &[])).to_string(), "192.168.123.0/24");
        assert_eq!(free_bridge(&[down], |name| name == "virbr1"), "virbr2");
    }

    #[test]
    fn a_clash_is_told_with_the_command_that_moves_the_network() {
        let network = default_network("192.168.122.0/24");
        let all = [network.clone()];
        let own = route("192.168.122.0/24", "virbr0");
        assert_eq!(clash(&network, &all, std::slice::from_ref(&own), "virsh"), None, "its own bridge");
        let fault = clash(&network, &all, &[own, route("192.168.122.200", "eth0")], "virsh").unwrap();
        assert_eq!(
            fault.finding,
            "has the addresses of 192.168.122.0/24, but this host reaches 192.168.122.200/32 through `eth0`"
        );
        assert!(fault.fix.contains(r"sed 's/192\.168\.122\./192.168.123./g'"), "{}", fault.fix);
        for vpn in ["192.168.0.0/16", "192.0.0.0/8"] {
            let fault = clash(&network, &all, &[route(vpn, "wg0")], "virsh").unwrap();
            assert!(fault.fix.contains("/172.31.0./"), "{}", fault.fix);
        }
        let wide = default_network("10.0.0.0/16");
        assert!(
            clash(&wide, &[], &[route("10.0.7.0/24", "docker0")], "virsh").unwrap().fix.contains("net-edit")
        );
    }

    #[test]
    fn a_network_without_dhcp_is_told_with_the_command_that_gives_it_some() {
        let network = VirtualNetwork { dhcp: false, ..default_network("10.7.0.0/24") };
        assert_eq!(
            no_dhcp(&network, "virsh").unwrap().fix,
            "virsh net-update default add ip-dhcp-range \"<range start='10.7.0.2' end='10.7.0.254'/>\" --live --config"
        );
        let bridged = VirtualNetwork { forward: Some("bridge".into()), ..network.clone() };
        assert_eq!(no_dhcp(&bridged, "virsh"), None, "the LAN gives addresses");
        assert_eq!(no_dhcp(&default_network("10.7.0.0/24"), "virsh"), None);
        let bare = VirtualNetwork { address: None, ranges: Vec::new(), forward: None, ..network };
        assert!(no_dhcp(&bare, "virsh").unwrap().fix.contains("net-edit"));
    }
}
