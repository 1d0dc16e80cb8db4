//! The addresses that this host reaches or has itself, as `ip -json` and `/proc/net/route` tell them.

use std::fs;
use std::net::Ipv4Addr;

use serde::Deserialize;

use crate::exec::Command;
use crate::hypervisor::Hypervisor;
use crate::model::Ipv4Range;

/// Addresses that this host reaches through one of its interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub range: Ipv4Range,
    /// The interface; the kind of the route where it has none, such as `unreachable`.
    pub device: String,
}

/// Returns the routes of the host that runs libvirt. Those of another host cannot be seen from here: there, libvirt itself
/// finds out what is used beside its networks.
pub(super) fn routes_of(host: &Hypervisor) -> Vec<Route> {
    if host.is_local() { routes() } else { Vec::new() }
}

/// Returns the routes of all of this host's routing tables, and its own addresses; without iproute2, the kernel's main table.
fn routes() -> Vec<Route> {
    let routes = ip(&["route", "show", "table", "all"]).and_then(|json| of_routes(&json));
    let own = || ip(&["address", "show"]).and_then(|json| of_addresses(&json)).unwrap_or_default();
    match routes {
        Some(routes) => routes.into_iter().chain(own()).collect(),
        None => of_proc(&fs::read_to_string("/proc/net/route").unwrap_or_default()),
    }
}

/// Returns the interface by which this host reaches the Internet, if there is one.
pub fn uplink() -> Option<String> {
    let routes: Vec<JsonRoute> = serde_json::from_slice(&ip(&["route", "show", "default"])?).ok()?;
    routes.into_iter().find_map(|route| route.dev)
}

fn ip(arguments: &[&str]) -> Option<Vec<u8>> {
    Command::new("ip").args(["-json", "-4"]).args(arguments.iter().copied()).output().ok()
}

/// A route, or one of the next hops of a route.
#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonRoute {
    #[serde(rename = "type")]
    kind: Option<String>,
    dst: String,
    dev: Option<String>,
    nexthops: Vec<JsonRoute>,
}

/// Reads what `ip -json -4 route show table all` prints (ip-route(8)).
fn of_routes(json: &[u8]) -> Option<Vec<Route>> {
    let mut routes: Vec<JsonRoute> = serde_json::from_slice(json).ok()?;
    routes.retain(|route| !matches!(route.kind.as_deref(), Some("broadcast" | "multicast" | "anycast")));
    let read = |route: JsonRoute| {
        let device = route.dev.or_else(|| route.nexthops.into_iter().find_map(|hop| hop.dev));
        // `default` is no range, so default routes are left out.
        Some(Route { range: route.dst.parse().ok()?, device: device.or(route.kind).unwrap_or_default() })
    };
    Some(routes.into_iter().filter_map(read).collect())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonInterface {
    ifname: String,
    addr_info: Vec<JsonAddress>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JsonAddress {
    local: Option<Ipv4Addr>,
    prefixlen: u8,
}

/// Reads what `ip -json -4 address show` prints (ip-address(8)).
fn of_addresses(json: &[u8]) -> Option<Vec<Route>> {
    let interfaces: Vec<JsonInterface> = serde_json::from_slice(json).ok()?;
    let mut routes = Vec::new();
    for JsonInterface { ifname, addr_info } in interfaces {
        routes.extend(addr_info.into_iter().filter_map(|JsonAddress { local, prefixlen }| {
            Some(Route { range: Ipv4Range::around(local?, prefixlen), device: ifname.clone() })
        }));
    }
    Some(routes)
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
pub(super) mod tests {
    use super::*;

    pub(in crate::host::subnet) fn route(text: &str, device: &str) -> Route {
        Route { range: text.parse().unwrap(), device: device.into() }
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
