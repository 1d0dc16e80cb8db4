//! A firewall's rules, and what they do with a packet.
//!
//! nixvm does not know every test of every firewall. So a rule matches, does not, or may; and a packet counts as dropped only
//! where no rule could have let it through.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use crate::model::Ipv4Range;

/// Most nested chains; the kernel's limit.
const DEPTH: usize = 16;

/// The point in the kernel where a chain sees packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Packets for this host.
    Input,
    /// Packets that it forwards.
    Forward,
}

/// A packet; `None` is unknown.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// An unknown interface is none of the guests'.
    pub input: Option<&'a str>,
    pub output: Option<&'a str>,
    pub source: Option<Ipv4Addr>,
    pub destination: Option<Ipv4Addr>,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    pub source_port: Option<u16>,
    pub port: Option<u16>,
    /// `new` or `established`.
    pub state: &'static str,
}

/// A test of a packet, whose answer is `None` where nixvm does not know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// The incoming interface; `+` or `*` at the end of a name stand for anything.
    Input(Vec<String>),
    /// The outgoing interface.
    Output(Vec<String>),
    Source(Vec<Ipv4Range>),
    Destination(Vec<Ipv4Range>),
    /// The destination is the broadcast address.
    Broadcast,
    Protocol(Vec<String>),
    /// The source port of that protocol, or of any.
    SourcePort(Option<String>, Vec<RangeInclusive<u16>>),
    /// The destination port likewise.
    Port(Option<String>, Vec<RangeInclusive<u16>>),
    /// The state of its connection.
    State(Vec<String>),
    /// A test that none of nixvm's packets can pass.
    Never,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub test: Test,
    pub negated: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    /// Drops or rejects.
    Drop,
    /// Continues in another chain, and comes back.
    Jump(String),
    /// Continues in another chain, and leaves this one.
    Goto(String),
    Return,
    /// Only counts or logs.
    Nothing,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub conditions: Vec<Condition>,
    pub verdict: Verdict,
}

/// A chain at a hook of the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    pub chain: String,
    pub hook: Hook,
    /// Whether its policy drops a packet that no rule decides.
    pub drops: bool,
}

/// Chains that can jump to each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Its name for nft(8), such as `inet filter`; `None` for iptables.
    pub nft: Option<String>,
    pub bases: Vec<Base>,
    pub chains: BTreeMap<String, Vec<Rule>>,
}

impl Table {
    /// Returns the chain that certainly drops the packet.
    pub fn dropped_by(&self, hook: Hook, packet: &Packet) -> Option<&str> {
        let dropping = self.bases.iter().filter(|base| base.hook == hook).find(|base| {
            let (dropped, may_pass) = self.walk(&base.chain, packet, DEPTH);
            dropped.unwrap_or(base.drops) && !may_pass
        })?;
        Some(&dropping.chain)
    }

    /// Returns whether a chain drops the packet, `None` if no rule decides, and whether a rule that may match could accept the
    /// packet before that.
    fn walk(&self, chain: &str, packet: &Packet, depth: usize) -> (Option<bool>, bool) {
        let mut may_pass = false;
        let Some(rules) = self.chains.get(chain).filter(|_| depth > 0) else { return (None, true) };
        for rule in rules {
            let matches = rule.matches(packet);
            let certain = matches == Some(true);
            match &rule.verdict {
                _ if matches == Some(false) => {}
                Verdict::Nothing => {}
                Verdict::Accept if certain => return (Some(false), may_pass),
                Verdict::Drop if certain => return (Some(true), may_pass),
                Verdict::Return if certain => return (None, may_pass),
                // If it does not match, the packet meets the next rule.
                Verdict::Drop => {}
                Verdict::Accept | Verdict::Return | Verdict::Unknown => may_pass = true,
                Verdict::Jump(target) | Verdict::Goto(target) => {
                    let (dropped, passes) = self.walk(target, packet, depth - 1);
                    may_pass |= passes || (!certain && dropped == Some(false));
                    let leaves = dropped.is_some() || matches!(rule.verdict, Verdict::Goto(_));
                    if certain && leaves {
                        return (dropped, may_pass);
                    }
                    may_pass |= leaves && dropped.is_none();
                }
            }
        }
        (None, may_pass)
    }
}

impl Rule {
    fn matches(&self, packet: &Packet) -> Option<bool> {
        let all: Vec<Option<bool>> =
            self.conditions.iter().map(|condition| condition.holds(packet)).collect();
        if all.contains(&Some(false)) {
            return Some(false);
        }
        (!all.contains(&None)).then_some(true)
    }
}

impl Condition {
    pub fn of(test: Test) -> Self {
        Condition { test, negated: false }
    }

    fn holds(&self, packet: &Packet) -> Option<bool> {
        Some(self.test.holds(packet)? != self.negated)
    }
}

impl Test {
    fn holds(&self, packet: &Packet) -> Option<bool> {
        let of_port = |protocol: &Option<String>, ports: &[RangeInclusive<u16>], port: Option<u16>| {
            if protocol.as_ref().is_some_and(|protocol| protocol != packet.protocol) {
                return Some(false);
            }
            let port = port?;
            Some(ports.iter().any(|ports| ports.contains(&port)))
        };
        match self {
            Test::Input(names) => of_interface(names, packet.input),
            Test::Output(names) => of_interface(names, packet.output),
            Test::Source(ranges) => of_address(ranges, packet.source),
            Test::Destination(ranges) => of_address(ranges, packet.destination),
            Test::Broadcast => Some(packet.destination == Some(Ipv4Addr::BROADCAST)),
            Test::Protocol(names) => Some(names.iter().any(|name| name == packet.protocol || name == "all")),
            Test::SourcePort(protocol, ports) => of_port(protocol, ports, packet.source_port),
            Test::Port(protocol, ports) => of_port(protocol, ports, packet.port),
            Test::State(states) => Some(states.iter().any(|state| state.eq_ignore_ascii_case(packet.state))),
            Test::Never => Some(false),
            Test::Unknown => None,
        }
    }
}

fn of_interface(names: &[String], interface: Option<&str>) -> Option<bool> {
    let Some(interface) = interface else { return (names == ["lo"]).then_some(false) };
    Some(names.iter().any(|name| match name.strip_suffix(['+', '*']) {
        Some(beginning) => interface.starts_with(beginning),
        None => name == interface,
    }))
}

fn of_address(ranges: &[Ipv4Range], address: Option<Ipv4Addr>) -> Option<bool> {
    match address {
        Some(address) => Some(ranges.iter().any(|range| range.contains(address))),
        None => ranges.iter().any(|range| range.prefix() == 0).then_some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(drops: bool, rules: Vec<Rule>, more: Vec<(&str, Vec<Rule>)>) -> Table {
        let base = Base { chain: "forward".into(), hook: Hook::Forward, drops };
        let more = more.into_iter().map(|(name, rules)| (name.to_owned(), rules));
        Table { nft: None, bases: vec![base], chains: more.chain([("forward".to_owned(), rules)]).collect() }
    }

    fn rule(test: Test, verdict: Verdict) -> Rule {
        Rule { conditions: vec![Condition::of(test)], verdict }
    }

    fn out() -> Packet<'static> {
        Packet {
            input: Some("virbr0"),
            output: None,
            source: Some(Ipv4Addr::new(192, 168, 122, 7)),
            destination: None,
            protocol: "tcp",
            source_port: None,
            port: Some(443),
            state: "new",
        }
    }

    fn drops(table: &Table) -> bool {
        table.dropped_by(Hook::Forward, &out()).is_some()
    }

    #[test]
    fn only_what_no_rule_may_let_through_is_dropped() {
        let accept = |test: Test| rule(test, Verdict::Accept);
        assert!(drops(&table(true, vec![], vec![])));
        assert!(!drops(&table(false, vec![], vec![])));
        assert!(!drops(&table(true, vec![accept(Test::Input(vec!["virbr+".into()]))], vec![])));
        assert!(drops(&table(true, vec![accept(Test::Input(vec!["docker0".into()]))], vec![])));
        assert!(!drops(&table(true, vec![accept(Test::Unknown)], vec![])), "it may");
        assert!(!drops(&table(true, vec![accept(Test::Output(vec!["eth0".into()]))], vec![])), "it may");
        let drop = rule(Test::Unknown, Verdict::Drop);
        assert!(!drops(&table(false, vec![drop.clone()], vec![])), "it may not");
        assert!(drops(&table(true, vec![drop], vec![])));
        assert!(table(true, vec![], vec![]).dropped_by(Hook::Input, &out()).is_none());
    }

    #[test]
    fn chains_are_followed_and_come_back() {
        let jump = |name: &str| Rule { conditions: vec![], verdict: Verdict::Jump(name.into()) };
        let goto = |name: &str| Rule { conditions: vec![], verdict: Verdict::Goto(name.into()) };
        let always = |verdict| Rule { conditions: vec![], verdict };
        let accepting = || vec![("a", vec![always(Verdict::Accept)])];
        let leaving = || vec![("a", vec![always(Verdict::Return), always(Verdict::Accept)])];
        assert!(!drops(&table(true, vec![jump("a")], accepting())));
        assert!(drops(&table(true, vec![jump("a")], leaving())));
        assert!(!drops(&table(true, vec![jump("a"), always(Verdict::Accept)], leaving())));
        assert!(drops(&table(true, vec![goto("a"), always(Verdict::Accept)], leaving())));
        // Into itself, and into one that is not there: nobody can say.
        assert!(!drops(&table(true, vec![jump("forward")], vec![])));
        assert!(!drops(&table(true, vec![jump("gone")], vec![])));
        let maybe = rule(Test::Unknown, Verdict::Return);
        assert!(!drops(&table(
            true,
            vec![jump("a"), always(Verdict::Drop)],
            vec![("a", vec![maybe, always(Verdict::Accept)])]
        )));
    }
}
