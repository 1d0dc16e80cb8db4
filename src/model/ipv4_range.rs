//! Ranges of IPv4 addresses, as routes and networks have them.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use super::quote;
use crate::error::Failure;

/// All addresses that begin with the same bits, such as 192.168.122.0/24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ipv4Range {
    first: u32,
    prefix: u8,
}

impl Ipv4Range {
    /// Returns the range of `prefix` bits (32 at most) that holds the address.
    pub fn around(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Ipv4Range { first: address.to_bits() & mask(prefix), prefix }
    }

    /// As [`Ipv4Range::around`], for a netmask such as 255.255.255.0; `None` if that is no netmask.
    pub fn by_netmask(address: Ipv4Addr, netmask: Ipv4Addr) -> Option<Self> {
        let bits = netmask.to_bits();
        let prefix = u8::try_from(bits.leading_ones()).ok()?;
        (mask(prefix) == bits).then(|| Self::around(address, prefix))
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    pub fn overlaps(self, other: Ipv4Range) -> bool {
        let mask = mask(self.prefix.min(other.prefix));
        self.first & mask == other.first & mask
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        self.overlaps(Self::around(address, 32))
    }

    /// Returns the address of that number, counted from 0.
    pub fn address(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.saturating_add(number))
    }

    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first | !mask(self.prefix))
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

/// Reads `10.0.0.0/8`; an address alone is a range of one.
impl FromStr for Ipv4Range {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        match (address.parse(), prefix.parse::<u8>()) {
            (Ok(address), Ok(prefix)) if prefix <= 32 => Ok(Self::around(address, prefix)),
            _ => Err(Failure::user(format!("{} is not a range of IPv4 addresses", quote(text)))
                .hint("a range looks like `192.168.122.0/24`")),
        }
    }
}

impl fmt::Display for Ipv4Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.first), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Ipv4Range {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_overlap_where_one_address_is_in_both() {
        let lan = range("192.168.122.0/24");
        for (other, overlaps) in [
            ("192.168.122.77", true),
            ("192.168.122.128/25", true),
            ("192.168.0.0/16", true),
            ("0.0.0.0/0", true),
            ("192.168.123.0/24", false),
            ("10.0.0.0/8", false),
            ("192.168.121.255", false),
        ] {
            assert_eq!(lan.overlaps(range(other)), overlaps, "{other}");
            assert_eq!(range(other).overlaps(lan), overlaps, "{other}");
        }
        assert!(lan.contains(Ipv4Addr::new(192, 168, 122, 255)));
        assert!(!lan.contains(Ipv4Addr::new(192, 168, 123, 0)));
    }

    #[test]
    fn ranges_are_read_and_shown_by_their_first_address() {
        assert_eq!(range("192.168.122.7/24").to_string(), "192.168.122.0/24");
        assert_eq!(
            (range("10.1.2.3").address(0), range("10.0.0.0/30").last()),
            ([10, 1, 2, 3].into(), [10, 0, 0, 3].into())
        );
        assert_eq!(range("0.0.0.0/0").last(), Ipv4Addr::BROADCAST);
        let by = |mask: [u8; 4]| Ipv4Range::by_netmask([10, 9, 8, 7].into(), mask.into());
        assert_eq!(by([255, 255, 0, 0]), Some(range("10.9.0.0/16")));
        assert_eq!(by([255, 0, 255, 0]), None);
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "fd00::/8", "default"] {
            assert!(wrong.parse::<Ipv4Range>().is_err(), "{wrong}");
        }
    }
}
