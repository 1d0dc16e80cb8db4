//! ssh_config(5): values as ssh reads them, and what the user's own configuration says of keys.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::exec::Command;

/// How long ssh may take to read its configuration, which can run programs of the user's (`Match exec`).
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Options for keys that are taken over from the user's configuration.
const KEYS: [&str; 2] = ["pkcs11provider", "securitykeyprovider"];

/// Options that are taken over as well if a user sits at the terminal.
const COMFORT: [&str; 4] = ["addkeystoagent", "forwardagent", "serveraliveinterval", "serveralivecountmax"];

/// The part of the user's configuration that concerns keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Configured {
    /// Files of keys, unexpanded: `~/.ssh/id_%h`.
    pub(super) identities: Vec<String>,
    pub(super) certificates: Vec<String>,
    /// The agent's socket, unexpanded; `None` for the one in the environment.
    pub(super) agent: Option<String>,
    /// Whether only configured keys are offered (`IdentitiesOnly`).
    pub(super) only: bool,
    /// Lines with the options of [`KEYS`] and [`COMFORT`].
    lines: Vec<String>,
}

impl Configured {
    /// Returns the configuration for a login at that address. One that ssh cannot read must not prevent it.
    pub(super) fn read(user: &str, at: &SocketAddr) -> Self {
        let (port, host) = (at.port().to_string(), at.ip().to_string());
        let ssh = Command::new("ssh").args(["-G", "-p", &port, "-l", user, "--", &host]);
        let said = ssh.output_within(READ_LIMIT).unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(&said))
    }

    /// Reads the output of `ssh -G`, one option a line.
    fn parse(text: &str) -> Self {
        let mut configured = Configured::default();
        for line in text.lines() {
            let Some((word, value)) = line.split_once(' ') else { continue };
            match word {
                "identityfile" if value != "none" => configured.identities.push(value.to_owned()),
                "certificatefile" if value != "none" => configured.certificates.push(value.to_owned()),
                "identityagent" => configured.agent = Some(value.to_owned()),
                "identitiesonly" => configured.only = value == "yes",
                _ if KEYS.contains(&word) || COMFORT.contains(&word) => {
                    configured.lines.push(line.to_owned())
                }
                _ => {}
            }
        }
        configured
    }

    /// Returns the options to take over, `batch` for a login without a user at the terminal.
    pub(super) fn taken_over(&self, batch: bool) -> impl Iterator<Item = String> {
        let taken = move |line: &&String| {
            let word = line.split(' ').next().unwrap_or_default();
            KEYS.contains(&word) || !batch && COMFORT.contains(&word)
        };
        self.lines.iter().filter(taken).flat_map(|line| ["-o".to_owned(), line.clone()])
    }
}

/// Returns an option with its value as one word: ssh splits a value at white space that is not in quotes.
pub(super) fn option(name: &str, value: &str) -> [String; 2] {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%~$".contains(c);
    let value = if value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
    };
    ["-o".to_owned(), format!("{name}={value}")]
}

/// Returns a path of the configuration as ssh expands it; `None` where that depends on more than the home.
pub(super) fn expanded(text: &str, home: Option<&Path>) -> Option<PathBuf> {
    let text = match text.strip_prefix("~/").or_else(|| text.strip_prefix("%d/")) {
        Some(rest) => home?.join(rest).into_os_string().into_string().ok()?,
        None => text.to_owned(),
    };
    let whole = text.replace("%%", "");
    (text.starts_with('/') && !whole.contains('%') && !whole.contains("${"))
        .then(|| PathBuf::from(text.replace("%%", "%")))
}

pub(super) fn escaped(path: &Path) -> String {
    path.display().to_string().replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_configuration_is_read_by_ssh_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let config = "Host 10.0.0.*\n IdentityAgent \"~/a b/agent.sock\"\n IdentityFile \"~/.ssh/my key\"\n IdentityFile /k/%r\n CertificateFile ~/c-cert.pub\n\
                      Host *\n ForwardAgent yes\n RemoteCommand theirs\n ProxyJump nowhere\n IdentitiesOnly yes\n";
        fs::write(&path, config).unwrap();
        let said = Command::new("ssh").arg("-F").arg(path).args(["-G", "--", "10.0.0.7"]).output().unwrap();
        let configured = Configured::parse(&String::from_utf8(said).unwrap());
        assert_eq!(configured.identities, ["~/.ssh/my key", "/k/%r"]);
        assert_eq!(configured.certificates, ["~/c-cert.pub"]);
        // ssh has put the home in already.
        assert!(configured.agent.as_ref().is_some_and(|socket| socket.ends_with("/a b/agent.sock")));
        assert!(
            configured.only && configured.lines.contains(&"forwardagent yes".to_owned()),
            "{configured:?}"
        );
        assert!(!format!("{configured:?}").contains("theirs"));
    }

    #[test]
    fn a_path_that_depends_on_more_than_the_home_is_left_to_ssh() {
        let home = Some(Path::new("/h"));
        for (text, path) in [
            ("~/.ssh/a b", Some("/h/.ssh/a b")),
            ("%d/.ssh/x", Some("/h/.ssh/x")),
            ("/50%%/x", Some("/50%/x")),
            ("~/.ssh/%h", None),
            ("${SSH_KEY}", None),
            ("/x/${Y}", None),
            ("$SSH_AUTH_SOCK", None),
            ("~other/x", None),
        ] {
            assert_eq!(expanded(text, home), path.map(PathBuf::from), "{text}");
        }
        assert_eq!(expanded("~/x", None), None);
    }

    #[test]
    fn a_value_reaches_ssh_as_one_word() {
        for value in ["/a b/c", "/q\"uote", "/back\\slash", "/é#", "/a 'b'"] {
            let mut ssh = Command::new("ssh").args(["-F", "none", "-G"]);
            ssh = ssh.args(option("UserKnownHostsFile", value)).args(["--", "10.0.0.7"]);
            let said = String::from_utf8(ssh.output().unwrap()).unwrap();
            assert!(
                said.lines().any(|line| line == format!("userknownhostsfile {value}")),
                "{value}: {said}"
            );
        }
    }
}
