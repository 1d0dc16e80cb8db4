//! The hash of root's password.

use std::fmt;

use ssh_key::rand_core::{OsRng, RngCore};
use yescrypt::{CustomizedPasswordHasher, Params, Yescrypt};

use super::text::checked_text;
use crate::error::Failure;

/// Longest hash, in bytes (`CRYPT_OUTPUT_SIZE` of crypt(3), with its NUL).
const LONGEST: usize = 383;

/// Longest password, in bytes, that crypt(3) takes (`CRYPT_MAX_PASSPHRASE_SIZE` without its NUL); PAM's limit is the same.
const LONGEST_PASSWORD: usize = 511;

/// Bytes of a salt: as many as crypt_gensalt(3) gives yescrypt.
const SALT: usize = 16;

/// A hashed password as crypt(5) describes it, such as `$y$j9T$…`.
///
/// It is a secret: neither `Debug` nor any message shows it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

checked_text!(PasswordHash);

impl PasswordHash {
    /// Returns the password's hash by yescrypt, `$y$j9T$…`, with a new random salt.
    ///
    /// The settings are the defaults of crypt(5), which take 16 MiB while it runs.
    ///
    /// Refuses a password that no login can match: an empty one, one with a line's end or a NUL, and one of more than 511
    /// bytes.
    pub fn yescrypt(password: &str) -> Result<Self, Failure> {
        check_password(password)?;
        let mut salt = [0; SALT];
        OsRng.try_fill_bytes(&mut salt).map_err(|error| {
            Failure::user("cannot get random bytes for a salt").because(anyhow::Error::msg(error))
        })?;
        Self::salted(password, &salt)
    }

    fn salted(password: &str, salt: &[u8]) -> Result<Self, Failure> {
        Yescrypt::default()
            .hash_password_customized(password.as_bytes(), salt, None, None, Params::default())
            .map_err(|error| Failure::bug("yescrypt refuses its own default settings").because(error))?
            .as_str()
            .parse()
    }

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
        // The message does not show the text: it may be the password itself.
        Err(Failure::user("root's password hash (not shown here) is not one of crypt(5)")
            .hint("a hash begins with a method, such as `$y$`; `nixvm passwd NAME` makes one of a password; an empty file locks root"))
    }
}

/// Refuses a password that cannot be typed at a login, or that crypt(3) would cut; no message shows it.
fn check_password(password: &str) -> Result<(), Failure> {
    let refused = |why: &str, hint: &str| Err(Failure::user(format!("the password {why}")).hint(hint));
    if password.is_empty() {
        refused("is empty", "to lock root, empty the file `root_password_hash`")
    } else if password.contains(['\n', '\r', '\0']) {
        refused("holds a line's end or a NUL", "give one line: a login ends a password there")
    } else if password.len() > LONGEST_PASSWORD {
        refused(
            &format!("has {} bytes, and crypt(3) takes {LONGEST_PASSWORD} at most", password.len()),
            "choose a shorter one",
        )
    } else {
        Ok(())
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

    /// Returns what the C library's crypt(3) makes of a password with the settings and the salt of `hash`; `None`
    /// where there is no perl to ask it.
    fn crypt(password: &str, hash: &str) -> Option<String> {
        let script = "binmode STDOUT; print crypt($ARGV[0], $ARGV[1])";
        let perl = std::process::Command::new("perl").args(["-e", script, "--", password, hash]).output();
        perl.ok().map(|output| String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn yescrypt_is_that_of_the_c_library() {
        for (password, salt) in [
            ("pleaseletmein", *b"0123456789abcdef"),
            ("tr0ub4dor & 3", [0; SALT]),
            ("pässwörd \t'\"$y$", [0xff; SALT]),
            (&"x".repeat(LONGEST_PASSWORD), *b"\x01\x80\x7f\xfe............"),
        ] {
            let hash = PasswordHash::salted(password, &salt).unwrap();
            assert!(hash.as_str().starts_with("$y$j9T$"), "{}", hash.as_str());
            match crypt(password, hash.as_str()) {
                Some(theirs) => assert_eq!(hash.as_str(), theirs),
                None => eprintln!("SKIPPED: there is no perl to compare yescrypt with crypt(3)"),
            }
        }
    }

    /// A hash by crypt(3) of libxcrypt 4.4.33, for hosts without perl to compare with.
    #[test]
    fn yescrypt_with_a_known_salt() {
        let hash = PasswordHash::salted("pleaseletmein", b"0123456789abcdef").unwrap();
        assert_eq!(
            hash.as_str(),
            "$y$j9T$k2XAnEHBqQ1Ct2aMXFKNa/$HmrKD1gbCKnuzxVScQp24Kin6bgilmq0gy1wUYnq2EC"
        );
    }

    #[test]
    fn every_hash_has_a_salt_of_its_own() {
        let [one, other] = ["hunter2", "hunter2"].map(|password| PasswordHash::yescrypt(password).unwrap());
        assert_ne!(one, other);
        // `$y$j9T$`, 22 digits of salt, `$`, 43 of hash.
        assert_eq!((one.as_str().len(), one.as_str().rfind('$')), (73, Some(29)));
    }

    #[test]
    fn a_password_that_no_login_could_match_is_refused_without_being_shown() {
        let long = "x".repeat(LONGEST_PASSWORD + 1);
        for (bad, why) in [
            ("", "is empty"),
            ("hunter2\n", "holds a line's end or a NUL"),
            ("hunter2\r", "holds a line's end or a NUL"),
            ("hunter2\0", "holds a line's end or a NUL"),
            (&long, "has 512 bytes, and crypt(3) takes 511 at most"),
        ] {
            let report = Report::of(&PasswordHash::yescrypt(bad).unwrap_err().into());
            assert_eq!(report.error, format!("the password {why}"));
            assert!(report.hints.len() == 1 && report.exit_code == 1, "{report:?}");
        }
    }

    #[test]
    fn debug_keeps_the_secret() {
        let hash: PasswordHash = "$6$salt$hash".parse().unwrap();
        assert_eq!(format!("{hash:?}"), "PasswordHash(hidden)");
    }
}
