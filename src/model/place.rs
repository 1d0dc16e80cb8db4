//! Where a machine is: which libvirt has it, and which of its pools its disks are in.

use super::text::public_text;
use super::{HostLabel, quote};
use crate::error::Failure;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolName(String);

/// The URI of a connection to libvirt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection(String);

/// Which libvirt has a machine, as its files say it: by the name of its host, or by its URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Libvirt {
    Host(HostLabel),
    Uri(Connection),
}

public_text!(PoolName);
public_text!(Connection);

impl PoolName {
    /// A new pool's folder gets its name.
    fn check(text: &str) -> Result<(), Failure> {
        let odd = |c: char| c == '/' || c.is_control() || c.is_whitespace();
        if text.is_empty() || text.starts_with('.') || text.contains(odd) {
            return Err(Failure::user(format!("{} cannot be a pool's name", quote(text)))
                .hint("`virsh pool-list --all` lists the pools; a name has no `/`, no space and no `.` at its beginning"));
        }
        Ok(())
    }
}

impl Connection {
    /// libvirt would take another word for an alias, and nixvm must know the real URI to know how to reach guests.
    fn check(text: &str) -> Result<(), Failure> {
        if text.contains("://") && !text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Ok(());
        }
        Err(Failure::user(format!("{} is no libvirt URI", quote(text)))
            .hint("give a URI such as qemu:///session or qemu+ssh://root@server/system; `virsh -c ALIAS uri` prints the one of an alias"))
    }
}

impl Default for PoolName {
    fn default() -> Self {
        PoolName("nixvm".to_owned())
    }
}

impl Default for Connection {
    fn default() -> Self {
        Connection("qemu:///system".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_uris_are_such_as_libvirt_takes() {
        for good in ["nixvm", "e2e_1", "é"] {
            good.parse::<PoolName>().unwrap();
        }
        for bad in ["", "a/b", "..", "a b", "a\nb"] {
            assert!(bad.parse::<PoolName>().is_err(), "{bad}");
        }
        for good in ["qemu:///system", "qemu+ssh://root@[::1]:22/system?keyfile=/k", "test:///default"] {
            good.parse::<Connection>().unwrap();
        }
        for bad in ["", "work", "qemu:///system\n", "qemu+ssh://a b/system"] {
            assert!(bad.parse::<Connection>().is_err(), "{bad}");
        }
        assert_eq!(Connection::default().as_str(), "qemu:///system");
    }
}
