//! Whether the firewall of this host lets the traffic of libvirt's network through.
//!
//! libvirt adds rules that accept its guests' traffic. Since libvirt 10.4 they are in a table of their own in nftables, and a
//! packet accepted there can still be dropped by another table: UFW's, Docker's policy, the user's own.

mod iptables;
mod nft;
mod rules;

use std::ffi::OsStr;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::exec::{self, Command};
use crate::host::subnet;
use crate::hypervisor::VirtualNetwork;

use super::check::Check;
use rules::{Hook, Packet, Table};

const NAME: &str = "firewall";

/// Any server on the Internet: one of the addresses for examples (RFC 5737).
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

struct Guests<'a> {
    bridge: &'a str,
    /// The address of one of them.
    address: Ipv4Addr,
    /// Whether this host assigns it.
    dhcp: bool,
    /// Whether they reach other networks.
    routed: bool,
}

struct Need {
    what: &'static str,
    hook: Hook,
}

const ADDRESS: Need = Need { what: "the guests' requests for an address (DHCP)", hook: Hook::Input };
const OUT: Need = Need { what: "what the guests send to other networks", hook: Hook::Forward };
const ANSWERS: Need = Need { what: "the answers to the guests from other networks", hook: Hook::Forward };

pub fn check(network: &VirtualNetwork, path: &OsStr) -> Check {
    let (Some(bridge), true) = (&network.bridge, network.runs) else {
        return Check::good(NAME, "is checked when libvirt's network is up");
    };
    if fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|on| on.trim() == "0") {
        let finding = "the kernel does not forward packets between networks, so guests reach only this host";
        return Check::warning(NAME, finding, "sudo sysctl -w net.ipv4.ip_forward=1");
    }
    let (tables, unread) = tables(path);
    let guest = network.ranges.first().map_or(Ipv4Addr::new(192, 168, 122, 2), |range| range.address(2));
    let routed = network.forward.as_deref().is_some_and(|mode| ["nat", "route"].contains(&mode));
    let guests = Guests { bridge, address: guest, dhcp: network.dhcp, routed };
    match dropped(&tables, &guests, subnet::uplink().as_deref()) {
        Some((need, fix)) => Check::warning(NAME, format!("drops {}", need.what), fix),
        None if unread.is_empty() => Check::good(NAME, format!("lets {bridge} through")),
        None => {
            let root = rustix::process::geteuid().is_root();
            let hint = if root { "" } else { " without root: run `sudo nixvm doctor`" };
            Check::good(NAME, format!("cannot read the rules of {}{hint}", unread.join(" and ")))
        }
    }
}

/// Returns the tables of this host's firewall, and the programs whose rules could not be read.
fn tables(path: &OsStr) -> (Vec<Table>, Vec<&'static str>) {
    let (mut tables, mut unread) = (Vec::new(), Vec::new());
    let mut ask = |program: &'static str, arguments: &[&str], read: fn(&[u8]) -> Option<Vec<Table>>| {
        if exec::find(program, path).is_none() {
            return;
        }
        let said = Command::new(program).args(arguments.iter().copied()).output();
        match said.ok().and_then(|said| read(&said)) {
            Some(read) => tables.extend(read),
            None => unread.push(program),
        }
    };
    let of_iptables = |said: &[u8]| Some(vec![iptables::read(&String::from_utf8_lossy(said))]);
    ask("iptables", &["-S"], of_iptables);
    // Run without need, it would load the kernel's old tables.
    if fs::read_to_string("/proc/net/ip_tables_names")
        .is_ok_and(|names| names.lines().any(|name| name == "filter"))
    {
        ask("iptables-legacy", &["-S"], of_iptables);
    }
    ask("nft", &["-j", "list", "ruleset"], nft::read);
    (tables, unread)
}

/// Returns the first need of the guests that these rules certainly drop, and the command that fixes it.
fn dropped(tables: &[Table], guests: &Guests, uplink: Option<&str>) -> Option<(Need, String)> {
    let Guests { bridge, address, dhcp, routed } = *guests;
    let request = Packet {
        input: Some(bridge),
        output: None,
        source: Some(Ipv4Addr::UNSPECIFIED),
        destination: Some(Ipv4Addr::BROADCAST),
        protocol: "udp",
        source_port: Some(68),
        port: Some(67),
        state: "new",
    };
    // Every guest is expected to reach the web.
    let out = Packet {
        output: uplink,
        source: Some(address),
        destination: Some(SERVER),
        protocol: "tcp",
        source_port: None,
        port: Some(443),
        ..request
    };
    let answer = Packet {
        input: uplink,
        output: Some(bridge),
        source: Some(SERVER),
        destination: Some(address),
        source_port: Some(443),
        port: None,
        state: "established",
        ..out
    };
    let needs = [(dhcp, ADDRESS, request), (routed, OUT, out), (routed, ANSWERS, answer)];
    needs.into_iter().filter(|(wanted, ..)| *wanted).find_map(|(_, need, packet)| {
        let (table, chain) =
            tables.iter().find_map(|table| Some((table, table.dropped_by(need.hook, &packet)?)))?;
        let fix = fix(table, chain, bridge, need.hook);
        Some((need, fix))
    })
}

fn fix(table: &Table, chain: &str, bridge: &str, hook: Hook) -> String {
    let forward = |chain: &str| {
        let answers = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
        format!(
            "sudo iptables -I {chain} -i {bridge} -j ACCEPT; sudo iptables -I {chain} -o {bridge} {answers}"
        )
    };
    let has = |name: &str| table.chains.keys().any(|chain| chain.starts_with(name));
    match (&table.nft, hook) {
        (Some(name), _) if name == "inet firewalld" => format!(
            "sudo firewall-cmd --permanent --zone=libvirt --change-interface={bridge} && sudo firewall-cmd --reload"
        ),
        (_, _) if has("ufw-") => ufw_fix(bridge),
        (_, Hook::Forward) if has("DOCKER-USER") => {
            format!("{}; Docker keeps them until the host boots again", forward("DOCKER-USER"))
        }
        (None, Hook::Forward) => forward(chain),
        (None, Hook::Input) => {
            format!("sudo iptables -I {chain} -i {bridge} -p udp -m multiport --dports 53,67 -j ACCEPT")
        }
        (Some(name), Hook::Forward) => format!(
            "sudo nft insert rule {name} {chain} iifname {bridge} accept; sudo nft insert rule {name} {chain} oifname {bridge} ct state established,related accept; add the same lines to /etc/nftables.conf"
        ),
        (Some(name), Hook::Input) => format!(
            "sudo nft insert rule {name} {chain} iifname {bridge} udp dport '{{ 53, 67 }}' accept; add the same line to /etc/nftables.conf"
        ),
    }
}

fn ufw_fix(bridge: &str) -> String {
    format!(
        "sudo sh -c 'ufw allow in on {bridge}; ufw allow out on {bridge}; ufw route allow in on {bridge}; ufw route allow out on {bridge}'"
    )
}

/// Checks UFW by its files: without root, nothing else of it can be read.
pub fn ufw(folder: &Path, bridge: &str) -> Check {
    let read = |name: &str| fs::read_to_string(folder.join(name));
    if !read("ufw.conf").unwrap_or_default().lines().any(|line| line.trim() == "ENABLED=yes") {
        return Check::good("UFW", "is not in the way");
    }
    match read("user.rules") {
        Ok(rules) if rules.contains(bridge) => Check::good("UFW", format!("has rules for {bridge}")),
        // The check `firewall` has read its rules in the kernel.
        Ok(_) if rustix::process::geteuid().is_root() => Check::good("UFW", "is on; see `firewall`"),
        _ => Check::warning(
            "UFW",
            format!("is on and has no rule for {bridge}, or they cannot be read"),
            ufw_fix(bridge),
        ),
    }
}

#[cfg(test)]
mod tests;
