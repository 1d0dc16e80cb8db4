//! A machine's own key.

use std::fmt;

use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey};

use crate::error::{Explain, Failure, Result};

/// Returns the public half, `TYPE BASE64`, of a private key in OpenSSH's format, which contains it in plain text even if
/// there is a passphrase; `None` where the text is no such key.
pub fn public_half(private: &str) -> Option<String> {
    let mut public = PrivateKey::from_openssh(private).ok()?.public_key().clone();
    public.set_comment("");
    Some(public.to_openssh().ok()?.trim_end().to_owned())
}

/// A machine's ssh host key, of type ed25519.
///
/// `Debug` shows the public half only.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey {
    /// The file's text: a user's own file is kept byte for byte.
    private: String,
    public: PublicKey,
}

impl HostKey {
    pub fn generate(comment: &str) -> Result<Self> {
        let no_key = || Failure::user("cannot make an ssh host key");
        let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).explain(no_key)?;
        key.set_comment(comment);
        let text = key.to_openssh(LineEnding::LF).explain(no_key)?;
        Ok(HostKey { private: text.to_string(), public: key.public_key().clone() })
    }

    /// Parses an OpenSSH private key file.
    ///
    /// Refuses a key with a passphrase, and every type but ed25519. No message shows any of the text.
    pub fn from_private(text: &str) -> Result<Self, Failure> {
        let refuse = |why: &str| {
            Failure::user(format!("the ssh host key (not shown here) {why}"))
                .hint("make one with `ssh-keygen -t ed25519 -N ''`, or move the file away and let nixvm make a new one")
        };
        let key = PrivateKey::from_openssh(text)
            .map_err(|cause| refuse("is no OpenSSH private key").because(cause))?;
        if key.is_encrypted() {
            return Err(refuse("has a passphrase, and nobody is there to type it when the guest boots"));
        }
        if !key.algorithm().is_ed25519() {
            return Err(refuse("is not of type ed25519"));
        }
        Ok(HostKey { private: text.to_owned(), public: key.public_key().clone() })
    }

    /// The text of the private key file, a secret.
    pub fn private(&self) -> &str {
        &self.private
    }

    /// Returns the public half in one line, `ssh-ed25519 AAAA… COMMENT`.
    pub fn public_line(&self) -> String {
        // A key that was read or made can be written again; an empty line would only fail to match.
        self.public.to_openssh().unwrap_or_default()
    }

    /// Returns whether a line holds the public half of this key, whatever its comment.
    pub fn matches(&self, public_line: &str) -> bool {
        PublicKey::from_openssh(public_line).is_ok_and(|other| other.key_data() == self.public.key_data())
    }

    /// Returns the fingerprint as ssh shows it, `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        self.public.fingerprint(HashAlg::Sha256).to_string()
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({})", self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_reads_back() {
        let key = HostKey::generate("root@web").unwrap();
        assert!(key.public_line().starts_with("ssh-ed25519 AAAA"));
        assert!(key.public_line().ends_with(" root@web"));
        assert_eq!(HostKey::from_private(key.private()).unwrap(), key);
        assert_ne!(HostKey::generate("root@web").unwrap().fingerprint(), key.fingerprint());
    }

    #[test]
    fn ssh_keygen_reads_it_too() {
        use std::os::unix::fs::OpenOptionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key = HostKey::generate("root@web").unwrap();
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        std::io::Write::write_all(&mut file, key.private().as_bytes()).unwrap();
        let printed = std::process::Command::new("ssh-keygen").arg("-yf").arg(&path).output().unwrap().stdout;
        assert_eq!(String::from_utf8(printed).unwrap().trim_end(), key.public_line());
    }

    #[test]
    fn the_public_file_must_belong_to_it() {
        let key = HostKey::generate("root@web").unwrap();
        let line = key.public_line();
        assert!(key.matches(line.trim_end_matches("root@web")));
        assert!(key.matches(&format!("{line}\n")));
        assert!(!key.matches(&HostKey::generate("root@web").unwrap().public_line()));
        assert!(!key.matches("rubbish"));
    }

    #[test]
    fn rubbish_is_refused_and_never_shown() {
        for bad in [
            "",
            "hunter2",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----\n",
        ] {
            let report = crate::error::Report::of(&HostKey::from_private(bad).unwrap_err().into());
            assert!(!format!("{report:?}").contains("hunter2"));
        }
        let key = HostKey::generate("c").unwrap();
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }
}
