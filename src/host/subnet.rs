//! libvirt's network `default`: on addresses that nothing else on this host uses, and what is wrong with one that is there.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Explain, Failure, Result};
use crate::exec::{self, Command};
use crate::host::Watch;
use crate::hypervisor::{Hypervisor, VirtualNetwork};
use crate::model::{Ipv4Range, Network};
use crate::render;

/// The network that `nat` stands for.
pub const DEFAULT: &str = "default";

/// Bits below which a route is a way to everywhere: 0.0.0.0/0, or the two halves of it that VPNs set.
const EVERYWHERE: u8 = 8;

/// Addresses that this host reaches through one of its interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The addresses.
    pub range: Ipv4Range,
    /// The interface.
    pub device: String,
}

/// What is wrong with a network, and what changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub finding: String,
    /// The command.
    pub fix: String,
}

/// Makes sure that a machine's network is there.
///
/// # Errors
/// It is not, and cannot be made.
pub fn ensure_network(host: &Hypervisor, network: &Network) -> Result<()> {
    match network {
        Network::Nat => {
            let ensured = host.ensure_network(DEFAULT, || {
                let others = host.networks()?;
                // What another host uses beside libvirt's networks is for its libvirt to find out.
                let routes = if host.is_local() { routes() } else { Vec::new() };
                let known =
                    |bridge: &str| host.is_local() && Path::new("/sys/class/net").join(bridge).exists();
                render::network_xml(&free_bridge(&others, known), free_range(&taken(&others, &routes)))
            });
            ensured.map(drop).or_else(|error| match faults(host).into_iter().flatten().next() {
                Some(fault) => Err(error).explain(|| {
                    Failure::user(format!("libvirt's network `{DEFAULT}` {}", fault.finding)).hint(fault.fix)
                }),
                None => Err(error),
            })
        }
        Network::Bridge(_) | Network::User => check_bridge(host, network),
    }
}

/// Checks that a bridge that guests are to use is there, as far as that can be seen from this host.
///
/// # Errors
/// It is not.
pub fn check_bridge(host: &Hypervisor, network: &Network) -> Result<()> {
    match network {
        Network::Bridge(interface) if host.is_local() && !is_bridge(interface.as_str()) => {
            Err(Failure::user(format!("this host has no bridge `{interface}`"))
                .hint("list bridges with `ip -br link show type bridge`; docs/networking.md shows how to make one")
                .into())
        }
        _ => Ok(()),
    }
}

fn is_bridge(interface: &str) -> bool {
    Path::new("/sys/class/net").join(interface).join("bridge").is_dir()
}

/// Says what is wrong with the network that a machine is to be on.
///
/// # Errors
/// libvirt does not answer.
pub fn note_faults(host: &Hypervisor, network: &Network, watch: &dyn Watch) -> Result<()> {
    if *network == Network::Nat {
        for fault in faults(host)? {
            watch.note(&format!(
                "libvirt's network `{DEFAULT}` {}; to change it, {}",
                fault.finding, fault.fix
            ));
        }
    }
    Ok(())
}

/// Returns what is wrong with the network `default` that is there.
///
/// # Errors
/// libvirt does not answer.
pub fn faults(host: &Hypervisor) -> Result<Vec<Fault>> {
    let networks = host.networks()?;
    let Some(network) = networks.iter().find(|network| network.name == DEFAULT) else {
        return Ok(Vec::new());
    };
    let routes = if host.is_local() { routes() } else { Vec::new() };
    let virsh = format!("virsh -c {}", exec::quoted(host.uri()));
    Ok(no_dhcp(network, &virsh).into_iter().chain(clash(network, &networks, &routes, &virsh)).collect())
}

/// Returns the fault of a network that gives its guests no addresses. On a bridge of the host's that is the LAN's work.
fn no_dhcp(network: &VirtualNetwork, virsh: &str) -> Option<Fault> {
    let own = network.forward.as_deref().is_none_or(|mode| ["nat", "route", "open"].contains(&mode));
    if network.dhcp || !own {
        return None;
    }
    let finding = "has no DHCP, so its guests get no address".to_owned();
    let (Some(address), Some(range)) = (network.address, network.ranges.first()) else {
        let fix = format!(
            "{virsh} net-edit {DEFAULT}, and give it an <ip> with <dhcp> as docs/networking.md shows"
        );
        return Some(Fault { finding, fix });
    };
    let last = Ipv4Addr::from_bits(range.last().to_bits().saturating_sub(1));
    let first = Ipv4Addr::from_bits(address.to_bits().saturating_add(1));
    let live = if network.runs { " --live" } else { "" };
    let fix = format!(
        "{virsh} net-update {DEFAULT} add ip-dhcp-range \"<range start='{first}' end='{last}'/>\"{live} --config"
    );
    Some(Fault { finding, fix })
}

/// Returns the fault of a network some of whose addresses this host looks for elsewhere.
fn clash(network: &VirtualNetwork, all: &[VirtualNetwork], routes: &[Route], virsh: &str) -> Option<Fault> {
    let bridge = network.bridge.as_deref();
    let elsewhere =
        |route: &&Route| Some(route.device.as_str()) != bridge && route.range.prefix() >= EVERYWHERE;
    let (range, other) = network.ranges.iter().find_map(|range| {
        let route = routes.iter().filter(elsewhere).find(|route| route.range.overlaps(*range))?;
        Some((range, route))
    })?;
    let others: Vec<VirtualNetwork> =
        all.iter().filter(|other| other.name != network.name).cloned().collect();
    let free = free_range(&taken(&others, routes));
    let fix = match range.prefix() {
        24 => {
            let beginning = |range: Ipv4Range| range.to_string().trim_end_matches("0/24").to_owned();
            format!(
                "with its machines off: {virsh} net-dumpxml --inactive {DEFAULT} | sed 's/{}/{}/g' | {virsh} net-define /dev/stdin; {virsh} net-destroy {DEFAULT}; {virsh} net-start {DEFAULT}",
                beginning(*range).replace('.', "\\."),
                beginning(free),
            )
        }
        _ => format!(
            "with its machines off: {virsh} net-edit {DEFAULT}, and give it the addresses of {free}; then {virsh} net-destroy {DEFAULT}; {virsh} net-start {DEFAULT}"
        ),
    };
    let finding = format!(
        "has the addresses of {range}, and this host reaches {} through `{}`",
        other.range, other.device
    );
    Some(Fault { finding, fix })
}

/// Returns what is used already: by other networks of libvirt's, also where they are down, and by this host.
fn taken(networks: &[VirtualNetwork], routes: &[Route]) -> Vec<Ipv4Range> {
    let defined = networks.iter().flat_map(|network| network.ranges.iter().copied());
    defined
        .chain(routes.iter().map(|route| route.range))
        .filter(|range| range.prefix() >= EVERYWHERE)
        .collect()
}

/// Returns 256 private addresses that are in none of these ranges: libvirt's own 192.168.122.0/24 where that is so.
///
/// A company's VPN may have routes to all private addresses. Then the narrower of its routes are avoided: that of the
/// network, being narrower than the others, goes before them.
fn free_range(taken: &[Ipv4Range]) -> Ipv4Range {
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
fn free_bridge(networks: &[VirtualNetwork], known: impl Fn(&str) -> bool) -> String {
    let defined = |name: &str| networks.iter().any(|network| network.bridge.as_deref() == Some(name));
    let mut names = (0..).map(|number| format!("virbr{number}"));
    names.find(|name| !defined(name) && !known(name)).unwrap_or_default()
}

/// Returns where this host looks for addresses: all its routing tables, and its own addresses.
///
/// Without iproute2 the kernel's main table is all that can be seen.
pub fn routes() -> Vec<Route> {
    let ip = |object: &[&str]| Command::new("ip").args(["-json", "-4"]).args(object.iter().copied()).output();
    let seen = ip(&["route", "show", "table", "all"]).ok().and_then(|json| of_routes(&json));
    let own = ip(&["address", "show"]).ok().and_then(|json| of_addresses(&json));
    match seen {
        Some(routes) => routes.into_iter().chain(own.unwrap_or_default()).collect(),
        None => of_proc(&fs::read_to_string("/proc/net/route").unwrap_or_default()),
    }
}

/// Returns the interface by which this host reaches the Internet, where there is one such.
pub fn uplink() -> Option<String> {
    let printed = Command::new("ip").args(["-json", "-4", "route", "show", "default"]).output().ok()?;
    let routes: Vec<JsonRoute> = serde_json::from_slice(&printed).ok()?;
    routes.into_iter().find_map(|route| route.dev)
}

#[derive(Deserialize)]
struct JsonRoute {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    dst: String,
    #[serde(default)]
    dev: Option<String>,
    #[serde(default)]
    nexthops: Vec<JsonHop>,
}

#[derive(Deserialize)]
struct JsonHop {
    #[serde(default)]
    dev: Option<String>,
}

/// Reads what `ip -json -4 route show table all` prints (ip-route(8)).
fn of_routes(json: &[u8]) -> Option<Vec<Route>> {
    let routes: Vec<JsonRoute> = serde_json::from_slice(json).ok()?;
    let to_hosts =
        |route: &JsonRoute| !matches!(route.kind.as_deref(), Some("broadcast" | "multicast" | "anycast"));
    let read = |route: JsonRoute| {
        let device = route.dev.or_else(|| route.nexthops.into_iter().find_map(|hop| hop.dev));
        // `default` is no range, and a way to everywhere.
        Some(Route { range: route.dst.parse().ok()?, device: device.or(route.kind).unwrap_or_default() })
    };
    Some(routes.into_iter().filter(to_hosts).filter_map(read).collect())
}

#[derive(Deserialize)]
struct JsonInterface {
    #[serde(default)]
    ifname: String,
    #[serde(default)]
    addr_info: Vec<JsonAddress>,
}

#[derive(Deserialize)]
struct JsonAddress {
    #[serde(default)]
    local: Option<Ipv4Addr>,
    #[serde(default)]
    prefixlen: u8,
}

/// Reads what `ip -json -4 address show` prints (ip-address(8)).
fn of_addresses(json: &[u8]) -> Option<Vec<Route>> {
    let interfaces: Vec<JsonInterface> = serde_json::from_slice(json).ok()?;
    let addresses = interfaces.into_iter().flat_map(|interface| {
        let device = interface.ifname;
        interface.addr_info.into_iter().filter_map(move |address| {
            Some(Route {
                range: Ipv4Range::around(address.local?, address.prefixlen),
                device: device.clone(),
            })
        })
    });
    Some(addresses.collect())
}

/// Reads `/proc/net/route`: a line a route, addresses as hexadecimal numbers in the order of the host's bytes (proc(5)).
fn of_proc(text: &str) -> Vec<Route> {
    let address =
        |hex: &str| u32::from_str_radix(hex, 16).ok().map(|bits| Ipv4Addr::from(bits.to_ne_bytes()));
    let read = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (device, first, mask) = (fields.first()?, address(fields.get(1)?)?, address(fields.get(7)?)?);
        Some(Route { range: Ipv4Range::by_netmask(first, mask)?, device: (*device).to_owned() })
    };
    text.lines().skip(1).filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Ipv4Range {
        text.parse().unwrap()
    }

    fn route(text: &str, device: &str) -> Route {
        Route { range: range(text), device: device.into() }
    }

    fn default_network(of: &str) -> VirtualNetwork {
        VirtualNetwork {
            name: DEFAULT.into(),
            bridge: Some("virbr0".into()),
            forward: Some("nat".into()),
            address: Some(range(of).address(1)),
            ranges: vec![range(of)],
            dhcp: true,
            runs: true,
        }
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

    #[test]
    fn a_way_to_everywhere_takes_nothing() {
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
            "has the addresses of 192.168.122.0/24, and this host reaches 192.168.122.200/32 through `eth0`"
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

    /// As iproute2 6.1 printed it on a host with a policy table, a gateway and a veth.
    #[test]
    fn routes_of_all_tables_are_read() {
        let json = br#"[{"dst":"100.64.0.0/10","dev":"eth0","table":"52","scope":"link","flags":[]},
            {"dst":"default","gateway":"10.1.2.1","dev":"eth0","flags":[]},
            {"dst":"10.1.2.0/24","dev":"eth0","protocol":"kernel","scope":"link","prefsrc":"10.1.2.3","flags":[]},
            {"type":"local","dst":"10.1.2.3","dev":"eth0","table":"local","protocol":"kernel","scope":"host","flags":[]},
            {"type":"unreachable","dst":"10.99.0.0/16","flags":[]},
            {"dst":"10.50.0.0/16","nexthops":[{"dev":"wg0","weight":1,"flags":[]}],"flags":[]},
            {"type":"broadcast","dst":"10.1.2.255","dev":"eth0","table":"local","flags":[]}]"#;
        assert_eq!(
            of_routes(json).unwrap(),
            [
                route("100.64.0.0/10", "eth0"),
                route("10.1.2.0/24", "eth0"),
                route("10.1.2.3", "eth0"),
                route("10.99.0.0/16", "unreachable"),
                route("10.50.0.0/16", "wg0"),
            ]
        );
        let json = br#"[{},{"ifindex":1,"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8}]}]"#;
        assert_eq!(of_addresses(json).unwrap(), [route("127.0.0.0/8", "lo")]);
        assert_eq!(of_routes(b"Usage: ip"), None);
    }

    #[test]
    fn the_kernels_own_table_does_without_iproute2() {
        let text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0102010A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            virbr0\t007AA8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(of_proc(text), [route("0.0.0.0/0", "eth0"), route("192.168.122.0/24", "virbr0")]);
    }
}
