//! The hash of root's password.

use std::fmt;

use super::text::checked_text;
use crate::error::Failure;

/// Longest hash, in bytes (`CRYPT_OUTPUT_SIZE` of crypt(3), with its NUL).
const LONGEST: usize = 383;

/// A hashed password as crypt(5) describes it, such as `$y$j9T$…`.
///
/// It is a secret: neither `Debug` nor any message shows it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

checked_text!(PasswordHash);

impl PasswordHash {
    fn check(text: &str) -> Result<(), Failure> {
        // crypt(5): printable ASCII without blanks and : ; * ! \
        let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b':' | b';' | b'*' | b'!' | b'\\');
        let settled = text.strip_prefix('$').and_then(|rest| rest.split_once('$'));
        if text.len() <= LONGEST
            && text.bytes().all(allowed)
            && settled.is_some_and(|(method, rest)| !method.is_empty() && !rest.is_empty())
        {
            return Ok(());
        }
        // What stands there may be the password itself.
        Err(Failure::user("root's password hash (not shown here) is not one of crypt(5)")
            .hint("a hash begins with a method, such as `$y$`; make one with `mkpasswd` or `openssl passwd -6`; an empty file locks root"))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    #[test]
    fn hashes_of_crypt() {
        for good in [
            "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7",
            "$6$rounds=5000$salt$hash",
            "$2b$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui",
        ] {
            assert_eq!(good.parse::<PasswordHash>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn anything_else_is_refused_without_being_shown() {
        for bad in
            ["", "!", "!*", "hunter2", "$y$", "$$x", "$y", "$y$a:b", "$y$a\nb", "$y$a\0", "$y$é", "$6$a b"]
        {
            let report = Report::of(&bad.parse::<PasswordHash>().unwrap_err().into());
            assert_eq!(report.error, "root's password hash (not shown here) is not one of crypt(5)");
        }
        assert!(format!("$y${}", "a".repeat(400)).parse::<PasswordHash>().is_err());
    }

    #[test]
    fn debug_keeps_the_secret() {
        let hash: PasswordHash = "$6$salt$hash".parse().unwrap();
        assert_eq!(format!("{hash:?}"), "PasswordHash(hidden)");
    }
}
