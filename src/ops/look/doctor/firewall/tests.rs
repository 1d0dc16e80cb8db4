//! What real firewalls printed: Debian 12's UFW, Docker and firewalld as they are installed, a ruleset of nftables' own, and
//! libvirt's rules, by iptables (9.0) and by nftables (as libvirt 10.4 and later make them).

use super::*;

const GUEST: Ipv4Addr = Ipv4Addr::new(192, 168, 122, 2);

fn of_iptables(text: &str) -> Vec<Table> {
    vec![iptables::read(text)]
}

fn of_nft(json: &str) -> Vec<Table> {
    nft::read(json.as_bytes()).unwrap()
}

fn asked(tables: &[Table], address: Ipv4Addr, dhcp: bool, routed: bool) -> Option<(&'static str, String)> {
    let guests = Guests { bridge: "virbr0", address, dhcp, routed };
    dropped(tables, &guests, Some("eth0")).map(|(need, fix)| (need.what, fix))
}

fn drops(tables: &[Table]) -> Option<(&'static str, String)> {
    asked(tables, GUEST, true, true)
}

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("recorded/", $name))
    };
}

#[test]
fn ufw_drops_until_it_is_told_otherwise() {
    let (what, fix) = drops(&of_iptables(recorded!("ufw.iptables"))).unwrap();
    assert_eq!(what, ADDRESS.what);
    assert!(fix.contains("ufw route allow in on virbr0"), "{fix}");
    assert_eq!(drops(&of_iptables(recorded!("ufw-allowed.iptables"))), None);
}

#[test]
fn docker_drops_what_is_forwarded_and_not_its_own() {
    let docker = of_iptables(recorded!("docker.iptables"));
    let (what, fix) = drops(&docker).unwrap();
    assert_eq!(what, OUT.what);
    assert!(fix.starts_with("sudo iptables -I DOCKER-USER -i virbr0 -j ACCEPT; "), "{fix}");
    assert_eq!(drops(&of_iptables(recorded!("docker-allowed.iptables"))), None);
    // libvirt's own rules accept the packet in their table, and Docker's policy drops it in the other all the same.
    let both: Vec<Table> = of_nft(recorded!("libvirt.json")).into_iter().chain(docker).collect();
    assert_eq!(drops(&both).unwrap().0, OUT.what);
}

#[test]
fn libvirts_own_rules_let_its_guests_through() {
    assert_eq!(drops(&of_nft(recorded!("libvirt.json"))), None);
    let rules = recorded!("libvirt.iptables");
    assert_eq!(drops(&of_iptables(rules)), None);
    // They stand before Docker's in the same chain, so that its policy never sees the packets.
    let strict =
        rules.replace("-P FORWARD ACCEPT", "-P FORWARD DROP").replace("-P INPUT ACCEPT", "-P INPUT DROP");
    assert_eq!(drops(&of_iptables(&strict)), None);
    // They reject what is of another network than theirs.
    assert_eq!(asked(&of_iptables(rules), Ipv4Addr::new(10, 0, 0, 2), true, true).unwrap().0, OUT.what);
}

#[test]
fn firewalld_rejects_where_the_bridge_is_in_no_zone() {
    let (what, fix) = drops(&of_nft(recorded!("firewalld.json"))).unwrap();
    assert_eq!(what, ADDRESS.what);
    assert!(fix.contains("--zone=libvirt --change-interface=virbr0"), "{fix}");
    assert_eq!(drops(&of_nft(recorded!("firewalld-trusted.json"))), None);
}

#[test]
fn a_ruleset_of_ones_own_is_named_with_its_chain() {
    let tables = of_nft(recorded!("nftables.json"));
    let (what, fix) = drops(&tables).unwrap();
    assert_eq!(what, ADDRESS.what);
    assert!(fix.starts_with("sudo nft insert rule inet filter input iifname virbr0 udp dport"), "{fix}");
    let forwarding = asked(&tables, GUEST, false, true).unwrap();
    assert!(forwarding.1.starts_with("sudo nft insert rule inet filter forward iifname virbr0 accept; "));
    assert!(asked(&tables, GUEST, false, false).is_none(), "nothing of it is needed");
    assert_eq!(
        drops(&of_nft(recorded!("nftables-allowed.json"))),
        None,
        "sets, jumps, prefixes and wildcards"
    );
    let answers =
        recorded!("nftables-allowed.json").replace("established", "untracked").replace("related", "new");
    assert_eq!(drops(&of_nft(&answers)).unwrap().0, ANSWERS.what);
}

#[test]
fn what_is_no_ruleset_is_not_taken_for_an_empty_one() {
    assert!(nft::read(b"Operation not permitted").is_none());
    assert!(nft::read(b"{}").is_none());
    assert_eq!(nft::read(br#"{"nftables":[{"metainfo":{"version":"1.0.6"}}]}"#), Some(Vec::new()));
}

#[test]
fn ufw_is_a_warning_only_when_on_and_without_rules_for_the_bridge() {
    use crate::ops::look::doctor::Health;
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(ufw(dir.path(), "virbr0").health, Health::Good);
    fs::write(dir.path().join("ufw.conf"), "ENABLED=yes\n").unwrap();
    assert_eq!(ufw(dir.path(), "virbr0").health, Health::Warning);
    fs::write(dir.path().join("user.rules"), "-A ufw-user-input -i virbr1 -j ACCEPT\n").unwrap();
    assert_eq!(ufw(dir.path(), "virbr1").health, Health::Good);
}
