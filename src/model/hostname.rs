//! A guest's hostname.

use super::text::public_text;
use super::{MachineName, quote};
use crate::error::Failure;

/// A guest's hostname: one label of RFC 1123, section 2.1.
///
/// It has 1 to 63 letters of either case, digits and inner hyphens, which is within the kernel's 64 bytes
/// (`gethostname(2)`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hostname(String);

public_text!(Hostname);

impl Hostname {
    fn check(text: &str) -> Result<(), Failure> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if (1..=63).contains(&text.len())
            && text.bytes().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-')
        {
            return Ok(());
        }
        Err(Failure::user(format!("{} is not a hostname", quote(text)))
            .hint("a hostname is one label of RFC 1123: 1 to 63 letters, digits and inner hyphens, without a domain"))
    }
}

/// A machine's first hostname is its name.
impl From<&MachineName> for Hostname {
    fn from(name: &MachineName) -> Self {
        Hostname(name.as_str().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_label_of_rfc_1123() {
        for good in ["web", "Web-1", "0", &"h".repeat(63)] {
            assert!(good.parse::<Hostname>().is_ok(), "{good}");
        }
        for bad in ["", "-web", "web-", "web.example.org", "web_1", "wéb", "a b", &"h".repeat(64)] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_machine_name_is_one() {
        for name in ["a", "0-0", &"x".repeat(63)] {
            Hostname::check(Hostname::from(&name.parse().unwrap()).as_str()).unwrap();
        }
    }
}
