//! The digests in a manifest.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};
use sha2::{Digest, Sha256};

use crate::error::Failure;
use crate::model::quote;
use crate::model::text::{debugged_as_shown, serialized_as_shown};

/// A SHA-256 digest (FIPS 180-4). Its text has 64 lower-case hexadecimal digits, as sha256sum(1) prints it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum([u8; 32]);

debugged_as_shown!(Checksum);
serialized_as_shown!(Checksum);

impl Checksum {
    /// A placeholder of the right length, for a manifest whose digests are not known yet.
    pub(super) const UNKNOWN: Checksum = Checksum([0; 32]);

    pub fn of(bytes: &[u8]) -> Self {
        Sha256::digest(bytes).into()
    }
}

impl<B: Into<[u8; 32]>> From<B> for Checksum {
    fn from(bytes: B) -> Self {
        Checksum(bytes.into())
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Checksum {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let pair =
            |i| u8::from_str_radix(text.get(i..i + 2).filter(|pair| pair.bytes().all(digit))?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(pair).collect();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Checksum).ok_or_else(|| {
            Failure::user(format!("{} is not a SHA-256 digest", quote(text)))
                .hint("a digest has 64 digits of 0-9 and a-f")
        })
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_that_of_sha256sum() {
        // FIPS 180-4's example, `printf abc | sha256sum`.
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Checksum::of(b"abc").to_string(), text);
        assert_eq!(text.parse::<Checksum>().unwrap(), Checksum::of(b"abc"));
        for bad in ["", &text[1..], &text.to_uppercase(), &format!("{text}0"), &format!("+{}", &text[1..])] {
            assert!(bad.parse::<Checksum>().is_err(), "{bad}");
        }
    }
}
