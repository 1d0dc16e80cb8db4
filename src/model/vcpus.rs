//! A guest's number of processors.

use std::fmt;
use std::str::FromStr;

use super::quote;
use crate::error::Failure;

/// A number of virtual processors, 1 to 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Vcpus(u16);

impl Vcpus {
    pub const DEFAULT: Vcpus = Vcpus(2);

    pub fn get(self) -> u32 {
        self.0.into()
    }
}

impl FromStr for Vcpus {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|n| digits && (1..=1024).contains(n)).map(Vcpus).ok_or_else(|| {
            Failure::user(format!("{} is not a number of virtual CPUs", quote(text)))
                .hint("give a whole number from 1 to 1024")
        })
    }
}

impl fmt::Display for Vcpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_from_1_to_1024() {
        for good in ["1", "2", "1024"] {
            assert_eq!(good.parse::<Vcpus>().unwrap().to_string(), good);
        }
        for bad in ["", "0", "1025", "-1", "+1", "1.5", "two", "99999999999999999999"] {
            assert!(bad.parse::<Vcpus>().is_err(), "{bad}");
        }
    }
}
