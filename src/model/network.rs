//! How a machine reaches the network.

use std::fmt;
use std::str::FromStr;

use super::quote;
use super::text::{public_text, serialized_as_shown};
use crate::error::Failure;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// libvirt's network `default`: the guest reaches out, and the host reaches the guest.
    Nat,
    /// A bridge of the host: the guest is on the host's network.
    Bridge(InterfaceName),
    /// QEMU's own network, which needs no root: the guest reaches out, and a local port leads to its ssh.
    User,
}

serialized_as_shown!(Network);

/// The name of a network interface of the host, as the kernel takes it (`dev_valid_name` in `net/core/dev.c`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceName(String);

public_text!(InterfaceName);

impl InterfaceName {
    fn check(text: &str) -> Result<(), Failure> {
        // The kernel has room for 15 bytes and refuses `/`, `:` and blanks; a leading hyphen would be an option to ip(8).
        let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%');
        if (1..=15).contains(&text.len())
            && text.bytes().all(allowed)
            && !matches!(text, "." | "..")
            && !text.starts_with('-')
        {
            return Ok(());
        }
        Err(Failure::user(format!("{} is not the name of a network interface", quote(text)))
            .hint("an interface's name has 1 to 15 characters, such as `br0`; `ip -brief link` lists them"))
    }
}

impl FromStr for Network {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        match text.split_once(':') {
            None if text == "nat" => Ok(Network::Nat),
            None if text == "user" => Ok(Network::User),
            None if text == "bridge" => {
                Err(Failure::user("`bridge` does not say which bridge")
                    .hint("write `bridge:IF`, such as `bridge:br0`; `ip -brief link show type bridge` lists the host's bridges"))
            }
            Some(("bridge", interface)) => Ok(Network::Bridge(interface.parse()?)),
            _ => Err(Failure::user(format!("{} is not a network", quote(text)))
                .hint("the network is one of `nat`, `bridge:IF` and `user`")),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Network::Nat => f.pad("nat"),
            Network::Bridge(interface) => f.pad(&format!("bridge:{interface}")),
            Network::User => f.pad("user"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    #[test]
    fn three_kinds() {
        for text in ["nat", "user", "bridge:br0", "bridge:enp6s0.10"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_bridge_must_be_named() {
        let report = Report::of(&"bridge".parse::<Network>().unwrap_err().into());
        assert_eq!(report.error, "`bridge` does not say which bridge");
        assert!(report.hints[0].contains("bridge:br0"));
    }

    #[test]
    fn nothing_else_is_one() {
        for bad in [
            "",
            "NAT",
            "nat:br0",
            "user:",
            "bridge:",
            "bridge:a b",
            "bridge:-x",
            "bridge:..",
            "bridge:a/b",
            "bridge:br0:1",
            "bridge:abcdefghijklmnop",
            "macvtap",
            "bridge:br0\n",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
