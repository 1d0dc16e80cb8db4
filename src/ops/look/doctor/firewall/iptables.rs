//! The rules of iptables, as `iptables -S` prints them: as arguments that would add them again (iptables(8)).

use std::ops::RangeInclusive;

use crate::model::Ipv4Range;

use super::rules::{Base, Condition, Hook, Rule, Table, Test, Verdict};

/// Reads the table `filter`.
pub fn read(text: &str) -> Table {
    let mut table = Table::default();
    for line in text.lines() {
        let words = words(line);
        let mut words = words.iter().map(String::as_str);
        match (words.next(), words.next()) {
            (Some("-P"), Some(chain)) => {
                let hook = match chain {
                    "INPUT" => Some(Hook::Input),
                    "FORWARD" => Some(Hook::Forward),
                    _ => None,
                };
                let drops = words.next() == Some("DROP");
                table.bases.extend(hook.map(|hook| Base { chain: chain.to_owned(), hook, drops }));
                table.chains.entry(chain.to_owned()).or_default();
            }
            (Some("-N"), Some(chain)) => {
                table.chains.entry(chain.to_owned()).or_default();
            }
            (Some("-A"), Some(chain)) => {
                let rule = rule(&words.collect::<Vec<_>>());
                table.chains.entry(chain.to_owned()).or_default().push(rule);
            }
            _ => {}
        }
    }
    table
}

/// Returns the words of a line; a word with blanks is in double quotes, with a backslash before a quote.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' if !quoted => words.extend(word.take()),
            '\\' if quoted => word.get_or_insert_default().extend(characters.next()),
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

fn rule(words: &[&str]) -> Rule {
    let mut rule = Rule { conditions: Vec::new(), verdict: Verdict::Nothing };
    let mut rest = words;
    let mut negated = false;
    while let [option, after @ ..] = rest {
        if *option == "!" {
            (negated, rest) = (true, after);
            continue;
        }
        let value = after.first().copied().unwrap_or_default();
        let taken = match *option {
            // The name of an extension; its tests follow.
            "-m" | "--match" => {
                // These have no meaning without their tests.
                let plain = ["tcp", "udp", "conntrack", "state", "multiport", "comment", "addrtype"];
                if !plain.contains(&value) {
                    rule.conditions.push(Condition::of(Test::Unknown));
                }
                1
            }
            "--comment" => 1,
            "-j" | "-g" => {
                rule.verdict = verdict(value, *option == "-g");
                // The rest are options of the target.
                break;
            }
            _ => {
                let (test, taken) = test(option, value);
                rule.conditions.extend(test.map(|test| Condition { test, negated }));
                taken
            }
        };
        negated = false;
        rest = after.get(taken..).unwrap_or_default();
    }
    rule
}

fn verdict(target: &str, goto: bool) -> Verdict {
    match target {
        "ACCEPT" => Verdict::Accept,
        "DROP" | "REJECT" => Verdict::Drop,
        "RETURN" => Verdict::Return,
        "LOG" | "NFLOG" | "ULOG" | "MARK" | "CONNMARK" | "AUDIT" | "TCPMSS" => Verdict::Nothing,
        "QUEUE" | "NFQUEUE" => Verdict::Unknown,
        chain if goto => Verdict::Goto(chain.to_owned()),
        chain => Verdict::Jump(chain.to_owned()),
    }
}

/// Returns an option's test, and how many words its value takes.
fn test(option: &str, value: &str) -> (Option<Test>, usize) {
    let list = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
    let ranges = || value.split(',').map(str::parse::<Ipv4Range>).collect::<Result<Vec<_>, _>>();
    let test = match option {
        "-i" => Test::Input(list()),
        "-o" => Test::Output(list()),
        "-s" => ranges().map_or(Test::Unknown, Test::Source),
        "-d" => ranges().map_or(Test::Unknown, Test::Destination),
        "-p" => Test::Protocol(list()),
        "--dport" | "--dports" => ports(value).map_or(Test::Unknown, |ports| Test::Port(None, ports)),
        "--sport" | "--sports" => ports(value).map_or(Test::Unknown, |ports| Test::SourcePort(None, ports)),
        "--ctstate" | "--state" => Test::State(list()),
        "--dst-type" if value == "BROADCAST" => Test::Broadcast,
        // nixvm's packets go to the broadcast address, or to another host.
        "--dst-type" if ["LOCAL", "MULTICAST", "ANYCAST"].contains(&value) => Test::Never,
        // An option of an extension's, with an unknown number of words.
        option if option.starts_with('-') => {
            return (Some(Test::Unknown), usize::from(!value.is_empty() && !value.starts_with(['-', '!'])));
        }
        _ => return (None, 0),
    };
    (Some(test), 1)
}

/// Reads `22,80,1000:2000`.
fn ports(text: &str) -> Option<Vec<RangeInclusive<u16>>> {
    let read = |part: &str| {
        let (first, last) = part.split_once(':').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.split(',').map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_would_be_typed() {
        let table = read(
            "-P FORWARD DROP\n-N mine\n-A FORWARD ! -i eth0 -s 10.0.0.0/8 -p tcp -m multiport --dports 22,80:90 -m comment --comment \"a \\\"b\\\" -j DROP\" -g mine\n",
        );
        assert_eq!(table.bases, [Base { chain: "FORWARD".into(), hook: Hook::Forward, drops: true }]);
        assert_eq!(
            table.chains["FORWARD"],
            [Rule {
                conditions: vec![
                    Condition { test: Test::Input(vec!["eth0".into()]), negated: true },
                    Condition::of(Test::Source(vec!["10.0.0.0/8".parse().unwrap()])),
                    Condition::of(Test::Protocol(vec!["tcp".into()])),
                    Condition::of(Test::Port(None, vec![22..=22, 80..=90])),
                ],
                verdict: Verdict::Goto("mine".into()),
            }]
        );
    }

    #[test]
    fn what_is_not_known_may_be_so() {
        let table = read("-A INPUT -m set --match-set good src -m limit --limit 3/min -j ACCEPT\n");
        assert!(table.chains["INPUT"][0].conditions.iter().all(|condition| condition.test == Test::Unknown));
        assert_eq!(table.chains["INPUT"][0].verdict, Verdict::Accept);
    }
}
