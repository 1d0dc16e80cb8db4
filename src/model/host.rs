//! The hosts of a workspace: computers that run its machines, each with a name and its libvirt.

use std::fmt;
use std::str::FromStr;

use super::domain::Arch;
use super::network::InterfaceName;
use super::{Connection, HostLabel, PoolName, lines, quote};
use crate::error::{Failure, Result};

/// The name of the file in a workspace.
pub const HOSTS: &str = "hosts";

/// A line of the file `hosts`: `NAME URI [pool=POOL] [bridge=IF] [arch=ARCH]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedHost {
    pub name: HostLabel,
    pub connection: Connection,
    /// The pool of new machines.
    pub pool: Option<PoolName>,
    /// The bridge of new machines whose network is `bridge`.
    pub bridge: Option<InterfaceName>,
    pub arch: Option<Arch>,
}

impl FromStr for NamedHost {
    type Err = Failure;

    fn from_str(line: &str) -> Result<Self, Failure> {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default().parse()?;
        let connection = words.next().ok_or_else(|| {
            Failure::user(format!("it does not say where `{name}` is"))
                .hint("write the URI of its libvirt behind the name, such as qemu+ssh://root@server/system")
        })?;
        let mut host =
            NamedHost { name, connection: connection.parse()?, pool: None, bridge: None, arch: None };
        for word in words {
            match word.split_once('=') {
                Some(("pool", pool)) => once(&mut host.pool, pool.parse()?, word)?,
                Some(("bridge", bridge)) => once(&mut host.bridge, bridge.parse()?, word)?,
                Some(("arch", arch)) => once(&mut host.arch, known(arch)?, word)?,
                _ => {
                    return Err(Failure::user(format!("{} says nothing about a host", quote(word))).hint(
                        "a line is NAME URI, and then pool=POOL, bridge=IF and arch=ARCH as you need them",
                    ));
                }
            }
        }
        Ok(host)
    }
}

fn once<T>(place: &mut Option<T>, value: T, word: &str) -> Result<(), Failure> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Failure::user(format!("{} is the second of its kind", quote(word)))
            .hint("leave one of them on the line")),
    }
}

fn known(arch: &str) -> Result<Arch, Failure> {
    Arch::from_name(arch).ok_or_else(|| {
        Failure::user(format!("{} is no architecture that nixvm builds for", quote(arch)))
            .hint("the architectures are x86_64 and aarch64")
    })
}

/// Writes the host for messages, with the URI that its name stands for.
impl fmt::Display for NamedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.connection)
    }
}

/// The hosts of the file `hosts`. No two have one name or one URI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts(Vec<NamedHost>);

impl Hosts {
    /// Parses the file; `label` is its name in messages.
    pub fn parse(label: &str, text: &str) -> Result<Self> {
        let hosts: Vec<NamedHost> = lines::parse(label, text)?;
        let numbers: Vec<usize> = lines::items(text).map(|(number, _)| number).collect();
        for (index, host) in hosts.iter().enumerate() {
            let same = |other: &NamedHost| other.name == host.name || other.connection == host.connection;
            if let Some(first) = hosts[..index].iter().position(same) {
                return Err(Failure::user(format!(
                    "{label}, line {}, names a host that line {} names already",
                    numbers[index], numbers[first]
                ))
                .hint("give each host one line, with a name and a URI of its own")
                .into());
            }
        }
        Ok(Hosts(hosts))
    }

    pub fn iter(&self) -> impl Iterator<Item = &NamedHost> {
        self.0.iter()
    }

    pub fn get(&self, name: &HostLabel) -> Option<&NamedHost> {
        self.iter().find(|host| host.name == *name)
    }

    /// Returns the host whose libvirt has that URI.
    pub fn at(&self, connection: &Connection) -> Option<&NamedHost> {
        self.iter().find(|host| host.connection == *connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    #[test]
    fn a_line_says_as_much_as_a_host_needs() {
        let text = "# ours\nbig qemu+ssh://root@big/system  pool=fast bridge=br0 arch=x86_64\n\narm\tqemu+ssh://arm/system\n";
        let hosts = Hosts::parse("hosts", text).unwrap();
        let big = hosts.get(&"big".parse().unwrap()).unwrap();
        assert_eq!(big.connection.as_str(), "qemu+ssh://root@big/system");
        assert_eq!((big.pool.as_ref().unwrap().as_str(), big.arch), ("fast", Some(Arch::X86_64)));
        assert_eq!(big.bridge.as_ref().unwrap().as_str(), "br0");
        assert_eq!(big.to_string(), "big (qemu+ssh://root@big/system)");
        let arm = hosts.at(&"qemu+ssh://arm/system".parse().unwrap()).unwrap();
        assert_eq!((arm.name.as_str(), &arm.pool, arm.arch), ("arm", &None, None));
        assert_eq!(hosts.iter().count(), 2);
        assert_eq!(Hosts::parse("hosts", "# none\n").unwrap(), Hosts::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let wrong = |line: &str| {
            let error = Hosts::parse("hosts", &format!("a qemu:///system\n# b\n{line}\n")).unwrap_err();
            let report = Report::of(&error);
            assert_eq!(report.hints.len(), 1, "{report:?}");
            (report.error, report.causes.concat())
        };
        for (line, cause) in [
            ("B test:///b", "`B` cannot be a host's name"),
            ("b", "it does not say where `b` is"),
            ("b server", "`server` is no libvirt URI"),
            ("b test:///b pool", "`pool` says nothing about a host"),
            ("b test:///b memory=4G", "`memory=4G` says nothing about a host"),
            ("b test:///b pool=", "cannot be a pool's name"),
            ("b test:///b bridge=a/b", "`a/b` is not the name of a network interface"),
            ("b test:///b arch=riscv64", "`riscv64` is no architecture"),
            ("b test:///b pool=x pool=y", "`pool=y` is the second of its kind"),
        ] {
            let (error, causes) = wrong(line);
            assert_eq!(error, "hosts, line 3, is wrong");
            assert!(causes.contains(cause), "{line}: {causes}");
        }
        for twice in ["a test:///b", "b qemu:///system"] {
            assert_eq!(wrong(twice).0, "hosts, line 3, names a host that line 1 names already");
        }
    }
}
