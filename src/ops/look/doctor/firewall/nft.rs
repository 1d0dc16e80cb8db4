//! The rules of nftables, as `nft -j list ruleset` prints them (libnftables-json(5)).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::Value;

use crate::model::Ipv4Range;

use super::rules::{Base, Condition, Hook, Rule, Table, Test, Verdict};

/// Reads the tables that IPv4 packets meet; `None` where the text is no ruleset.
pub fn read(json: &[u8]) -> Option<Vec<Table>> {
    let document: Value = serde_json::from_slice(json).ok()?;
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    let mut sets: BTreeMap<(String, String), Vec<Value>> = BTreeMap::new();
    let objects = document["nftables"].as_array()?;
    for object in objects {
        for kind in ["set", "map"] {
            if let Some((table, set)) = of_ipv4(&object[kind]) {
                let elements = set["elem"].as_array().cloned().unwrap_or_default();
                sets.insert((table, text(set, "name").to_owned()), elements);
            }
        }
    }
    for object in objects {
        if let Some((name, chain)) = of_ipv4(&object["chain"]) {
            let table =
                tables.entry(name.clone()).or_insert_with(|| Table { nft: Some(name), ..Table::default() });
            table.bases.extend(base(chain));
            table.chains.entry(text(chain, "name").to_owned()).or_default();
        }
        if let Some((name, rule)) = of_ipv4(&object["rule"]) {
            let set = |reference: &str| sets.get(&(name.clone(), reference.to_owned())).cloned();
            let rules = rules(rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default(), &set);
            let table = tables.entry(name.clone()).or_default();
            table.chains.entry(text(rule, "chain").to_owned()).or_default().extend(rules);
        }
    }
    Some(tables.into_values().filter(|table| !table.bases.is_empty()).collect())
}

/// Returns the object with the name of its table, if IPv4 packets meet that.
fn of_ipv4(object: &Value) -> Option<(String, &Value)> {
    let family = object["family"].as_str().filter(|family| ["ip", "inet"].contains(family))?;
    Some((format!("{family} {}", text(object, "table")), object))
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}

fn base(chain: &Value) -> Option<Base> {
    let hook = match (text(chain, "type"), text(chain, "hook")) {
        ("filter", "input") => Hook::Input,
        ("filter", "forward") => Hook::Forward,
        _ => return None,
    };
    Some(Base { chain: text(chain, "name").to_owned(), hook, drops: text(chain, "policy") == "drop" })
}

type Sets<'a> = &'a dyn Fn(&str) -> Option<Vec<Value>>;

/// Translates a rule of nftables: into one rule, or for a map of verdicts into one for each entry.
fn rules(expressions: &[Value], sets: Sets) -> Vec<Rule> {
    let mut conditions = Vec::new();
    let mut rules = Vec::new();
    let mut verdict = Verdict::Nothing;
    for expression in expressions {
        let Some((kind, value)) = expression.as_object().and_then(|object| object.iter().next()) else {
            continue;
        };
        match kind.as_str() {
            "match" => conditions.push(condition(value, sets)),
            "vmap" => rules.extend(by_map(&conditions, value, sets)),
            "xt" if text(value, "name") == "comment" || text(value, "name") == "LOG" => {}
            "xt" if text(value, "type") == "target" => verdict = Verdict::Unknown,
            // A match or target of iptables', which `iptables -S` shows.
            "xt" => conditions.push(Condition::of(Test::Unknown)),
            // These match a limited number of packets.
            "limit" | "quota" | "ct count" => conditions.push(Condition::of(Test::Unknown)),
            "queue" | "tproxy" | "synproxy" => verdict = Verdict::Unknown,
            other => verdict = self::verdict(other, value).unwrap_or(verdict),
        }
    }
    if rules.is_empty() || verdict != Verdict::Nothing {
        rules.push(Rule { conditions, verdict });
    }
    rules
}

fn verdict(kind: &str, value: &Value) -> Option<Verdict> {
    let target = || text(value, "target").to_owned();
    Some(match kind {
        "accept" => Verdict::Accept,
        "drop" | "reject" => Verdict::Drop,
        "return" => Verdict::Return,
        "jump" => Verdict::Jump(target()),
        "goto" => Verdict::Goto(target()),
        _ => return None,
    })
}

fn by_map(conditions: &[Condition], map: &Value, sets: Sets) -> Vec<Rule> {
    let entries = match &map["data"] {
        Value::String(reference) => sets(reference.trim_start_matches('@')),
        inline => inline["set"].as_array().cloned(),
    };
    let Some(entries) = entries else {
        return vec![Rule { conditions: vec![Condition::of(Test::Unknown)], verdict: Verdict::Unknown }];
    };
    let rule = |entry: &Value| {
        let (kind, value) = entry[1].as_object()?.iter().next()?;
        let test = test(&map["key"], std::slice::from_ref(&entry[0]));
        let conditions = conditions.iter().cloned().chain([Condition::of(test)]).collect();
        Some(Rule { conditions, verdict: verdict(kind, value).unwrap_or(Verdict::Nothing) })
    };
    entries.iter().filter_map(rule).collect()
}

fn condition(value: &Value, sets: Sets) -> Condition {
    let negated = match text(value, "op") {
        "==" | "in" => false,
        "!=" => true,
        _ => return Condition::of(Test::Unknown),
    };
    let right = match &value["right"] {
        Value::String(name) if name.starts_with('@') => match sets(name.trim_start_matches('@')) {
            Some(elements) => elements,
            None => return Condition::of(Test::Unknown),
        },
        // A set of bits, such as connection states, is a plain list.
        Value::Array(elements) => elements.clone(),
        right => match right["set"].as_array() {
            Some(elements) => elements.clone(),
            None => vec![right.clone()],
        },
    };
    Condition { test: test(&value["left"], &right), negated }
}

fn test(left: &Value, right: &[Value]) -> Test {
    let names = || right.iter().map(name).collect::<Option<Vec<String>>>();
    let (meta, ct) = (left["meta"]["key"].as_str(), left["ct"]["key"].as_str());
    let payload = (left["payload"]["protocol"].as_str(), left["payload"]["field"].as_str());
    let read = match (meta, ct, payload) {
        (Some("iifname" | "iif"), ..) => names().map(Test::Input),
        (Some("oifname" | "oif"), ..) => names().map(Test::Output),
        (Some("l4proto"), ..) | (_, _, (Some("ip"), Some("protocol"))) => names().map(Test::Protocol),
        (Some("nfproto"), ..) => match names() {
            Some(families) if families == ["ipv6"] => Some(Test::Never),
            _ => None,
        },
        // A rule for ports forwarded to a guest; none of nixvm's packets is of one.
        (_, Some("status"), _) => names().filter(|names| *names == ["dnat"]).map(|_| Test::Never),
        (_, Some("state"), _) => names().map(Test::State),
        (_, _, (Some("ip"), Some("saddr"))) => ranges(right).map(Test::Source),
        (_, _, (Some("ip"), Some("daddr"))) => ranges(right).map(Test::Destination),
        (_, _, (Some("tcp" | "udp" | "th"), Some(field @ ("dport" | "sport")))) => {
            return ports(left, right, field);
        }
        (_, _, (Some("ip6" | "icmp" | "icmpv6" | "igmp" | "sctp" | "dccp"), _)) => Some(Test::Never),
        _ => None,
    };
    read.unwrap_or(Test::Unknown)
}

fn ports(left: &Value, right: &[Value], field: &str) -> Test {
    let Some(ports) = right.iter().map(port_range).collect::<Option<Vec<_>>>() else { return Test::Unknown };
    // `th` is the header of any transport protocol.
    let protocol = Some(text(&left["payload"], "protocol")).filter(|name| *name != "th").map(str::to_owned);
    if field == "dport" { Test::Port(protocol, ports) } else { Test::SourcePort(protocol, ports) }
}

fn name(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["elem"]["val"].as_str()).map(str::to_owned)
}

fn ranges(values: &[Value]) -> Option<Vec<Ipv4Range>> {
    let read = |value: &Value| match value["prefix"]["addr"].as_str() {
        Some(address) => format!("{address}/{}", value["prefix"]["len"]).parse().ok(),
        None => value.as_str()?.parse().ok(),
    };
    values.iter().map(read).collect()
}

fn port_range(value: &Value) -> Option<RangeInclusive<u16>> {
    let port = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    match value["range"].as_array().map(Vec::as_slice) {
        Some([first, last]) => Some(port(first)?..=port(last)?),
        _ => port(value).map(|port| port..=port),
    }
}
