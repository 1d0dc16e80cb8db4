//! Where a machine is: which libvirt has it, and which of its pools its disks are in.

use super::quote;
use super::text::public_text;
use crate::error::Failure;

/// The name of one of libvirt's storage pools.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolName(String);

/// The URI of a connection to libvirt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection(String);

public_text!(PoolName);
public_text!(Connection);

impl PoolName {
    /// A new pool's folder is called by its name.
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
    /// libvirt would take other words for an alias, and what that stands for decides how guests are reached.
    fn check(text: &str) -> Result<(), Failure> {
        if text.contains("://") && !text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Ok(());
        }
        Err(Failure::user(format!("{} is no libvirt URI", quote(text)))
            .hint("such as qemu:///session, or qemu+ssh://root@server/system; of an alias `virsh -c ALIAS uri` prints it"))
    }
}

/// The pool of a machine that is said nothing of.
impl Default for PoolName {
    fn default() -> Self {
        PoolName("nixvm".to_owned())
    }
}

/// The libvirt that is asked where nothing is said.
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
