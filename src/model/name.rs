//! The names of machines, profiles and snapshots.

use super::quote;
use super::text::public_text;
use crate::error::Failure;

/// Longest name, in bytes: a machine's name is its first hostname, and a label has no more (RFC 1123).
const LONGEST: usize = 63;

/// The name of a machine: of its folder, its domain, its volumes and its flake output.
///
/// It has 1 to 63 lower-case letters, digits and inner hyphens. So it is safe as a file name, before the `.` in a volume's
/// name and as an attribute of a flake, and is never taken for an option.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineName(String);

/// The name of a profile, `profiles/NAME.nix`; of the same shape as a machine's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName(String);

/// The name of a snapshot; of the same shape as a machine's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotName(String);

/// The name of a host in the workspace's file `hosts`; of the same shape as a machine's. A guest's is a [`super::Hostname`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostLabel(String);

macro_rules! name {
    ($name:ident, $what:literal) => {
        public_text!($name);

        impl $name {
            fn check(text: &str) -> Result<(), Failure> {
                check($what, text)
            }
        }
    };
}

name!(MachineName, "a machine's name");
name!(ProfileName, "a profile's name");
name!(SnapshotName, "a snapshot's name");
name!(HostLabel, "a host's name");

impl Default for ProfileName {
    fn default() -> Self {
        ProfileName("core".to_owned())
    }
}

fn check(what: &str, text: &str) -> Result<(), Failure> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let why = if text.is_empty() {
        "it is empty".to_owned()
    } else if text.len() > LONGEST {
        format!("it is {} bytes long", text.len())
    } else if text.starts_with('-') || text.ends_with('-') {
        "a hyphen stands only inside it".to_owned()
    } else if let Some(c) = text.chars().find(|c| !u8::try_from(*c).is_ok_and(allowed)) {
        format!("it holds {}", quote(c.to_string()))
    } else {
        return Ok(());
    };
    Err(Failure::user(format!("{} cannot be {what}: {why}", quote(text))).hint(format!(
        "{what} has 1 to {LONGEST} of the characters a-z, 0-9 and -, and begins and ends with a letter or digit"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    #[test]
    fn labels_are_names() {
        for good in ["a", "0", "web", "web-prod", "a--b", "1st", &"x".repeat(63)] {
            assert_eq!(good.parse::<MachineName>().unwrap().as_str(), good);
            assert_eq!(good.parse::<ProfileName>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn nothing_else_is_and_the_message_says_why() {
        for (bad, message) in [
            ("", "`` cannot be a machine's name: it is empty"),
            ("../x", "`../x` cannot be a machine's name: it holds `.`"),
            ("web.prod", "`web.prod` cannot be a machine's name: it holds `.`"),
            ("Web", "`Web` cannot be a machine's name: it holds `W`"),
            ("--yes", "`--yes` cannot be a machine's name: a hyphen stands only inside it"),
            ("web-", "`web-` cannot be a machine's name: a hyphen stands only inside it"),
            ("we b", "`we b` cannot be a machine's name: it holds ` `"),
            ("wéb", "`wéb` cannot be a machine's name: it holds `é`"),
            ("web\n", r"`web\n` cannot be a machine's name: it holds `\n`"),
        ] {
            let report = Report::of(&bad.parse::<MachineName>().unwrap_err().into());
            assert_eq!(report.error, message);
            assert!(report.hints[0].contains("1 to 63 of the characters a-z, 0-9 and -"));
            assert!(bad.parse::<ProfileName>().is_err());
        }
        let long = "x".repeat(64).parse::<MachineName>().unwrap_err().to_string();
        assert!(long.ends_with("…` cannot be a machine's name: it is 64 bytes long"), "{long}");
    }

    #[test]
    fn a_stored_name_is_checked_too() {
        assert_eq!(serde_json::from_str::<MachineName>("\"web\"").unwrap().as_str(), "web");
        assert!(serde_json::from_str::<MachineName>("\"../x\"").is_err());
    }
}
