//! libvirt's own networks.

use std::net::Ipv4Addr;

use roxmltree::Node;
use virt::error::{Error, ErrorNumber};

use super::Hypervisor;
use crate::error::{Failure, Result};
use crate::libvirt::{Say, code, said, xml};
use crate::model::Ipv4Range;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VirtualNetwork {
    pub name: String,
    /// The host's bridge that connects its guests.
    pub bridge: Option<String>,
    /// How traffic leaves it (`nat`, `route`, `bridge`, …); `None` for an isolated network.
    pub forward: Option<String>,
    /// The host's own address on it.
    pub address: Option<Ipv4Addr>,
    /// The network's own addresses, and those it has routes to.
    pub ranges: Vec<Ipv4Range>,
    /// Whether libvirt gives its guests IPv4 addresses.
    pub dhcp: bool,
    pub runs: bool,
}

/// What had to be done so that something runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ensured {
    Present,
    Started,
    Created,
}

impl Hypervisor {
    /// Ensures that the network `name` runs, now and whenever libvirt starts.
    ///
    /// An existing network stays as it is; a missing one is defined by `xml`.
    ///
    /// # Errors
    /// Those of `xml`; this libvirt has no networks (a session has none), or the network does not start.
    pub fn ensure_network(&self, name: &str, xml: impl FnOnce() -> Result<String>) -> Result<Ensured> {
        let say = || Failure::user(format!("cannot start libvirt's network `{name}`"));
        let find = || self.connection().lookup_network_by_name(name).unless(ErrorNumber::NoNetwork);
        let found = match find() {
            Err(error) if has_no_networks(&error) => {
                return Err(say().hint(self.network_hint()).because(said(&error)).into());
            }
            found => found.say(say)?,
        };
        let (network, missing) = match found {
            Some(network) => (network, false),
            None => match self.connection().define_network_xml(&xml()?) {
                Ok(network) => (network, true),
                // The start of another machine may have defined it first.
                Err(error) => (find().say(say)?.map_or_else(|| Err(error).say(say), Ok)?, false),
            },
        };
        let running = network.is_active().say(say)?;
        // The start of another machine may have started it meanwhile.
        if !running
            && let Err(error) = network.create()
            && !network.is_active().unless(ErrorNumber::NoNetwork).say(say)?.unwrap_or(false)
        {
            if missing {
                // A definition that does not work would stand in the way of the next try.
                let _ = network.undefine();
            }
            return Err(error).say(|| say().hint(self.network_hint()));
        }
        if !network.autostart().say(say)? {
            network.set_autostart(true).say(say)?;
        }
        Ok(match (missing, running) {
            (true, _) => Ensured::Created,
            (false, false) => Ensured::Started,
            (false, true) => Ensured::Present,
        })
    }

    fn network_hint(&self) -> &'static str {
        if self.is_session() {
            "a user's own libvirt may make no networks; use `--network user`, which needs none"
        } else {
            "it needs dnsmasq and iptables or nftables, and its address range must be free on the host"
        }
    }

    /// Returns libvirt's networks; none where this libvirt has no network driver.
    pub fn networks(&self) -> Result<Vec<VirtualNetwork>> {
        let say = || Failure::user("cannot list libvirt's networks");
        let listed = match self.connection().list_all_networks(0) {
            Err(error) if has_no_networks(&error) => return Ok(Vec::new()),
            listed => listed.say(say)?,
        };
        let mut networks = Vec::new();
        for network in listed {
            // One that was undefined since the list was made is no error.
            let Some(xml) = network.xml_desc(0).unless(ErrorNumber::NoNetwork).say(say)? else { continue };
            let runs = network.is_active().unless(ErrorNumber::NoNetwork).say(say)?.unwrap_or(false);
            networks.push(VirtualNetwork { runs, ..xml::read(&xml, network_of)? });
        }
        Ok(networks)
    }
}

fn has_no_networks(error: &Error) -> bool {
    matches!(code(error), Some(ErrorNumber::NoSupport | ErrorNumber::NoConnect))
}

/// Reads a network's definition; see <https://libvirt.org/formatnetwork.html>.
fn network_of(root: Node<'_, '_>) -> VirtualNetwork {
    let at = |place| xml::at(root, place);
    let ips = || root.children().filter(|node| node.has_tag_name("ip"));
    let routes = root.children().filter(|node| node.has_tag_name("route"));
    let leases = |kind| xml::all(root, &format!("network/ip/dhcp/{kind}"));
    VirtualNetwork {
        name: at("network/name").map(xml::text).unwrap_or_default(),
        bridge: at("network/bridge").and_then(|bridge| bridge.attribute("name")).map(str::to_owned),
        // libvirt's mode is NAT if none is named.
        forward: at("network/forward").map(|forward| forward.attribute("mode").unwrap_or("nat").to_owned()),
        address: ips().find_map(|ip| ipv4(ip, "address")),
        ranges: ips().chain(routes).filter_map(range).collect(),
        dhcp: leases("range").iter().any(|range| ipv4(*range, "start").is_some())
            || leases("host").iter().any(|host| ipv4(*host, "ip").is_some()),
        runs: false,
    }
}

fn ipv4(node: Node<'_, '_>, name: &str) -> Option<Ipv4Addr> {
    node.attribute(name)?.parse().ok()
}

fn range(node: Node<'_, '_>) -> Option<Ipv4Range> {
    let address = ipv4(node, "address")?;
    let prefix = node.attribute("prefix").and_then(|prefix| prefix.parse().ok());
    match (prefix, ipv4(node, "netmask")) {
        (Some(prefix), _) => Some(Ipv4Range::around(address, prefix)),
        (None, Some(netmask)) => Ipv4Range::by_netmask(address, netmask),
        (None, None) => Some(Ipv4Range::around(address, class_prefix(address))),
    }
}

/// Returns libvirt's prefix for a network without netmask and prefix: that of the address's class.
fn class_prefix(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        192.. => 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_network_is_made_once_and_a_stopped_one_started() {
        let hypervisor = Hypervisor::open("test:///default").unwrap();
        let xml = "<network><name>t1</name><bridge name='virbr9'/><ip address='10.9.0.1' netmask='255.255.255.0'/></network>";
        let ensure = || hypervisor.ensure_network("t1", || Ok(xml.to_owned())).unwrap();
        let seen = || hypervisor.networks().unwrap().into_iter().find(|network| network.name == "t1");
        assert_eq!(seen(), None);
        assert_eq!(ensure(), Ensured::Created);
        assert_eq!(ensure(), Ensured::Present);
        hypervisor.connection().lookup_network_by_name("t1").unwrap().destroy().unwrap();
        assert_eq!(seen().map(|network| network.runs), Some(false));
        assert_eq!(ensure(), Ensured::Started);
        hypervisor.connection().lookup_network_by_name("t1").unwrap().destroy().unwrap();
        hypervisor.connection().lookup_network_by_name("t1").unwrap().undefine().unwrap();
    }

    #[test]
    fn two_that_find_no_network_make_it_together() {
        // The test driver forgets what there was with its last connection.
        let kept = Hypervisor::open("test:///default").unwrap();
        let both_found_none = std::sync::Barrier::new(2);
        let make = || {
            let xml = || {
                both_found_none.wait();
                Ok("<network><name>t2</name><bridge name='virbr8'/><ip address='10.9.1.1' netmask='255.255.255.0'/></network>".to_owned())
            };
            let made = Hypervisor::open("test:///default").unwrap().ensure_network("t2", xml);
            made.map(drop).map_err(|error| format!("{error:#}"))
        };
        let made = std::thread::scope(|scope| {
            [scope.spawn(make), scope.spawn(make)].map(|made| made.join().unwrap())
        });
        assert_eq!(made, [Ok(()), Ok(())]);
        let network = kept.connection().lookup_network_by_name("t2").unwrap();
        assert!(network.is_active().unwrap());
        network.destroy().unwrap();
        network.undefine().unwrap();
    }

    #[test]
    fn a_definition_says_where_its_guests_are_and_whether_they_get_addresses() {
        let read = |text: &str| xml::read(text, network_of);
        let network = read(
            "<network><name>lan</name><forward mode='route'/><bridge name='virbr7'/>\
             <ip family='ipv6' address='fd00::1' prefix='64'><dhcp><range start='fd00::2' end='fd00::9'/></dhcp></ip>\
             <ip address='10.9.8.1' netmask='255.255.254.0'/><route address='172.20.0.0' prefix='16' gateway='10.9.8.2'/>\
             <portgroup name='x'/></network>",
        )
        .unwrap();
        let ranges: Vec<String> = network.ranges.iter().map(ToString::to_string).collect();
        assert_eq!(ranges, ["10.9.8.0/23", "172.20.0.0/16"]);
        assert_eq!(network.address, Some([10, 9, 8, 1].into()));
        assert_eq!((network.bridge.as_deref(), network.forward.as_deref()), (Some("virbr7"), Some("route")));
        assert!(!network.dhcp, "the guests' IPv4 is what counts");
        let plain = read("<network><name>a</name><forward/><ip address='10.0.0.1'><dhcp><range start='10.0.0.2' end='10.0.0.9'/></dhcp></ip></network>").unwrap();
        assert_eq!((plain.forward.as_deref(), plain.dhcp), (Some("nat"), true));
        assert_eq!(plain.ranges, ["10.0.0.0/8".parse().unwrap()]);
    }
}
