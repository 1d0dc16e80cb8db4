//! A network card's address.

use std::fmt;
use std::str::FromStr;

use super::quote;
use super::text::{debugged_as_shown, serialized_as_shown};
use crate::error::Failure;

/// A unicast MAC address, six octets written `52:54:00:12:34:56`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

debugged_as_shown!(MacAddress);
serialized_as_shown!(MacAddress);

impl MacAddress {
    /// Returns a new address under `52:54:00`, the locally administered prefix that QEMU and libvirt use.
    pub fn generate() -> Self {
        let random = uuid::Uuid::new_v4();
        // These come before the version's octet; all of them are random.
        let [a, b, c, ..] = *random.as_bytes();
        MacAddress([0x52, 0x54, 0x00, a, b, c])
    }
}

impl FromStr for MacAddress {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let refuse = |why: &str| {
            Failure::user(format!("{} is not a MAC address{why}", quote(text)))
                .hint("a machine's MAC address is unicast and looks like `52:54:00:12:34:56`: six pairs of hexadecimal digits")
        };
        let mut octets = [0; 6];
        let mut pairs = text.split(':');
        for octet in &mut octets {
            let pair = pairs.next().ok_or_else(|| refuse(""))?;
            // `from_str_radix` alone would take `+f`.
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(refuse(""));
            }
            *octet = u8::from_str_radix(pair, 16).map_err(|_| refuse(""))?;
        }
        match octets {
            _ if pairs.next().is_some() => Err(refuse("")),
            [0, 0, 0, 0, 0, 0] => Err(refuse(" of a card: it is all zeros")),
            // The lowest bit of the first octet marks a group (IEEE 802).
            [first, ..] if first & 1 == 1 => Err(refuse(" of a card: it is multicast")),
            _ => Ok(MacAddress(octets)),
        }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_case_is_read_and_lower_case_written() {
        let mac: MacAddress = "52:54:00:AB:cd:0f".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:0f");
        assert_eq!(mac.to_string().parse::<MacAddress>().unwrap(), mac);
    }

    #[test]
    fn a_generated_one_is_unicast_and_locally_administered() {
        let mac = MacAddress::generate();
        assert_eq!(mac.0[0] & 0b11, 0b10);
        assert!(mac.to_string().starts_with("52:54:00:"));
        assert_ne!(mac, MacAddress::generate());
    }

    #[test]
    fn groups_and_rubbish_are_refused() {
        let multicast = "01:00:5e:00:00:01".parse::<MacAddress>().unwrap_err().to_string();
        assert_eq!(multicast, "`01:00:5e:00:00:01` is not a MAC address of a card: it is multicast");
        for bad in [
            "",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "52-54-00-12-34-56",
            "52:54:00:12:34:+6",
            "52:54:00:12:34:5",
            "52:54:00:12:34:gg",
        ] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }
}
