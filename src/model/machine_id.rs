//! The number that identifies a machine in its guest and to libvirt.

use std::fmt;
use std::str::FromStr;

use super::quote;
use super::text::{debugged_as_shown, serialized_as_shown};
use crate::error::Failure;

/// A machine's id: `/etc/machine-id` in the guest and the UUID of its domain.
///
/// Its text is that of `machine-id(5)`: 32 lower-case hexadecimal digits, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(uuid::Uuid);

debugged_as_shown!(MachineId);
serialized_as_shown!(MachineId);

impl MachineId {
    /// Returns a new id, a random UUID (RFC 9562, version 4) as `machine-id(5)` recommends.
    pub fn generate() -> Self {
        MachineId(uuid::Uuid::new_v4())
    }

    /// Returns the id whose UUID is written in `text`, 8-4-4-4-12 hexadecimal digits of either case.
    pub fn from_uuid(text: &str) -> Result<Self, Failure> {
        uuid::Uuid::try_parse(text)
            .ok()
            .filter(|id| text.len() == 36 && !id.is_nil())
            .map(MachineId)
            .ok_or_else(|| {
                Failure::user(format!("{} is not a UUID", quote(text)))
                    .hint("a UUID looks like `0b5f0e4c-5a4b-4c7e-9f57-0d6f6f1f8a11`, and is not all zeros")
            })
    }

    /// Takes libvirt's own form of a UUID; `None` for zeros.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        Some(uuid::Uuid::from_bytes(bytes)).filter(|id| !id.is_nil()).map(MachineId)
    }

    /// Returns the UUID's text, 8-4-4-4-12 lower-case hexadecimal digits.
    pub fn to_uuid(self) -> String {
        self.0.hyphenated().to_string()
    }
}

impl FromStr for MachineId {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        uuid::Uuid::try_parse(text)
            .ok()
            .filter(|id| text.len() == 32 && text.bytes().all(digit) && !id.is_nil())
            .map(MachineId)
            .ok_or_else(|| {
                Failure::user(format!("{} is not a machine id", quote(text)))
                    .hint("a machine id has 32 digits of 0-9 and a-f, not all zero; see machine-id(5)")
            })
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_and_uuid_are_two_spellings() {
        let id: MachineId = "0b5f0e4c5a4b4c7e9f570d6f6f1f8a11".parse().unwrap();
        assert_eq!(id.to_uuid(), "0b5f0e4c-5a4b-4c7e-9f57-0d6f6f1f8a11");
        assert_eq!(MachineId::from_uuid(&id.to_uuid().to_uppercase()).unwrap(), id);
        assert_eq!(id.to_string().parse::<MachineId>().unwrap(), id);
    }

    #[test]
    fn a_generated_id_is_a_random_uuid() {
        let id = MachineId::generate();
        assert_eq!(id.0.get_version_num(), 4);
        assert_ne!(id, MachineId::generate());
    }

    #[test]
    fn other_spellings_are_refused() {
        let zeros = "0".repeat(32);
        for bad in [
            "",
            "uninitialized",
            &zeros,
            "0B5F0E4C5A4B4C7E9F570D6F6F1F8A11",
            "0b5f0e4c-5a4b-4c7e-9f57-0d6f6f1f8a11",
            "0b5f0e4c5a4b4c7e9f570d6f6f1f8a1",
        ] {
            assert!(bad.parse::<MachineId>().is_err(), "{bad}");
        }
        for bad in ["", "0b5f0e4c5a4b4c7e9f570d6f6f1f8a11", "{0b5f0e4c-5a4b-4c7e-9f57-0d6f6f1f8a11}"] {
            assert!(MachineId::from_uuid(bad).is_err(), "{bad}");
        }
        assert_eq!(MachineId::from_bytes([0; 16]), None);
    }
}
