//! Which of a person's ssh keys are offered to a guest.
//!
//! sshd lets go after six keys (`MaxAuthTries` of sshd_config(5)), and an agent may hold more. Who may log in stands in the
//! machine's files, so the keys that open it are offered and no others, whatever their files are called. Only where none of
//! them is to be had does ssh offer what it would of itself: a certificate, a key on a card, one that `extra.nix` lets in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::exec::Command;
use crate::file;
use crate::guest::ssh_config::option;
use crate::host::Setup;
use crate::model::{AuthorizedKey, Machine, public_half};

/// How long ssh may read its configuration, which can run programs of the user's (`Match exec` of ssh_config(5)).
const READ_LIMIT: Duration = Duration::from_secs(10);

/// How long an agent may take to name its keys.
const AGENT_LIMIT: Duration = Duration::from_secs(5);

/// What is taken over of ssh's configuration: where keys are kept, and what is done with them.
const KEYS: [&str; 2] = ["pkcs11provider", "securitykeyprovider"];

/// What is taken over besides where a person sits at it.
const COMFORT: [&str; 4] = ["addkeystoagent", "forwardagent", "serveraliveinterval", "serveralivecountmax"];

/// The part of ssh's own configuration that matters for keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Configured {
    /// Files of keys, as they stand there: `~/.ssh/id_%h`.
    identities: Vec<String>,
    certificates: Vec<String>,
    /// The agent's socket, as it stands there; `None` for what the environment says.
    agent: Option<String>,
    only: bool,
    /// Lines that are taken over as they are.
    lines: Vec<String>,
}

/// A file of a key that is or may be on this computer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyFile {
    /// Its path for ssh.
    path: String,
    /// The public half, `TYPE BASE64`; `None` where it cannot be told.
    key: Option<String>,
}

/// What is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Offer<'a> {
    /// The key in this file.
    File(&'a str),
    /// This key, `TYPE BASE64`, which the agent holds.
    Agent(&'a str),
}

/// Returns the options that have ssh offer the keys that open `user`'s account in the machine.
pub fn options(
    setup: &Setup,
    machine: &Machine,
    user: &str,
    at: &SocketAddr,
    batch: bool,
) -> Result<Vec<String>> {
    let configured = Configured::read(user, at);
    let home = setup.session.home.as_deref();
    let (agent, mute) = agent_keys(configured.agent.as_deref(), home);
    let (authorized, certain) = authorized(machine, user);
    let files = key_files(&configured.identities, home);
    let offers = offers(&authorized, &agent, &files);
    let mut options = Vec::new();
    for offer in &offers {
        let path = match offer {
            Offer::File(path) => (*path).to_owned(),
            Offer::Agent(key) => escaped(&public_file(setup, key)?),
        };
        options.extend(option("IdentityFile", &path));
    }
    let only = certain && !offers.is_empty();
    if !only {
        let given = configured.identities.iter().map(|path| option("IdentityFile", path));
        let certificates = configured.certificates.iter().map(|path| option("CertificateFile", path));
        options.extend(given.chain(certificates).flatten());
    }
    let only = if only || configured.only { "yes" } else { "no" };
    options.extend(["-o".to_owned(), format!("IdentitiesOnly={only}")]);
    match (&configured.agent, mute) {
        // ssh would wait for it longer than anybody would.
        (_, true) => options.extend(option("IdentityAgent", "none")),
        (Some(socket), false) => options.extend(option("IdentityAgent", socket)),
        (None, false) => {}
    }
    let taken = |line: &&String| {
        let word = line.split(' ').next().unwrap_or_default();
        KEYS.contains(&word) || !batch && COMFORT.contains(&word)
    };
    options.extend(configured.lines.iter().filter(taken).flat_map(|line| ["-o".to_owned(), line.clone()]));
    Ok(options)
}

impl Configured {
    /// Returns what ssh is configured for, for a login there. Where ssh cannot read its configuration, that is nothing: it
    /// is no reason not to reach a guest.
    fn read(user: &str, at: &SocketAddr) -> Self {
        let (port, host) = (at.port().to_string(), at.ip().to_string());
        let said = Command::new("ssh").args(["-G", "-p", &port, "-l", user, "--", &host]);
        said.output_within(READ_LIMIT)
            .map(|said| Self::parse(&String::from_utf8_lossy(&said)))
            .unwrap_or_default()
    }

    /// Returns what `ssh -G` printed, a line for each option.
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
}

/// Returns the keys, `TYPE BASE64`, that open `user`'s account, and whether no others do as far as can be told.
fn authorized(machine: &Machine, user: &str) -> (Vec<String>, bool) {
    let (lines, known): (Vec<&AuthorizedKey>, bool) = match user {
        "admin" => (machine.admin_keys.iter().collect(), true),
        "user" => (machine.user_keys.iter().collect(), true),
        // An account of the user's own: who made the machine may be let in there too.
        _ => (machine.admin_keys.iter().chain(&machine.user_keys).collect(), false),
    };
    let authority = lines.iter().any(|line| line.is_authority());
    let keys = lines.iter().filter(|line| !line.is_authority()).map(|line| line.key()).collect();
    (keys, known && !authority)
}

/// Returns what to offer of the authorised keys: each that is there once, from its file where it has one, which ssh tries the agent
/// for first.
fn offers<'a>(authorized: &'a [String], agent: &[String], files: &'a [KeyFile]) -> Vec<Offer<'a>> {
    let mut offers = Vec::new();
    for key in authorized {
        let file = files.iter().find(|file| file.key.as_ref() == Some(key));
        let offer = match file {
            Some(file) => Some(Offer::File(&file.path)),
            None => agent.contains(key).then_some(Offer::Agent(key)),
        };
        offers.extend(offer.filter(|offer| !offers.contains(offer)));
    }
    offers
}

/// Returns the files of keys that ssh is configured for, then those in the folder where people keep them.
fn key_files(configured: &[String], home: Option<&Path>) -> Vec<KeyFile> {
    let named = configured.iter().filter_map(|text| {
        let path = expanded(text, home)?;
        Some(KeyFile { key: public_key(&path), path: text.clone() })
    });
    let found = home.map(public_keys).unwrap_or_default().into_iter().filter_map(|public| {
        let private = public.with_extension("");
        let path = if private.exists() { &private } else { return None };
        Some(KeyFile { path: escaped(path), key: key_of(&file::read(&public).ok()??) })
    });
    named.chain(found).collect()
}

/// Returns the public half of the key in that file, which may be either half; `None` where there is none.
fn public_key(path: &Path) -> Option<String> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    let read = |path: &Path| file::read(path).ok().flatten();
    if let Some(text) = read(Path::new(&beside)).filter(|_| path.exists()) {
        return key_of(&text);
    }
    let text = read(path)?;
    public_half(&text).or_else(|| key_of(&text))
}

/// Returns the files of public keys in `~/.ssh`: the strongest of OpenSSH's default names first, then whatever else there is.
pub fn public_keys(home: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(home.join(".ssh"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "pub"))
        .collect();
    files.sort_by_key(|path| (!path.ends_with("id_ed25519.pub"), path.clone()));
    files
}

/// Returns the keys that the agent holds, and whether it does not answer at all.
fn agent_keys(socket: Option<&str>, home: Option<&Path>) -> (Vec<String>, bool) {
    let mut list = Command::new("ssh-add").arg("-L");
    match socket {
        Some("none") => return (Vec::new(), false),
        None | Some("SSH_AUTH_SOCK") => {}
        Some(socket) if let Some(name) = variable(socket) => {
            list = Command::new("sh").args(["-c", &format!("SSH_AUTH_SOCK=${name} exec ssh-add -L")]);
        }
        Some(socket) => match expanded(socket, home) {
            Some(path) => list = list.env("SSH_AUTH_SOCK", path),
            None => return (Vec::new(), false),
        },
    }
    let began = Instant::now();
    match list.output_within(AGENT_LIMIT) {
        Ok(said) => (String::from_utf8_lossy(&said).lines().filter_map(key_of).collect(), false),
        Err(_) => (Vec::new(), began.elapsed() >= AGENT_LIMIT),
    }
}

/// Returns the name of the environment variable that ssh takes the agent's socket from, where it is configured so: `$NAME`.
fn variable(socket: &str) -> Option<&str> {
    socket.strip_prefix('$').filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

/// Returns a line's key, `TYPE BASE64`.
fn key_of(line: &str) -> Option<String> {
    let mut words = line.split_ascii_whitespace();
    Some(format!("{} {}", words.next()?, words.next()?))
}

/// Writes the public half of a key to a file by which ssh asks its agent for it, and returns that.
fn public_file(setup: &Setup, key: &str) -> Result<PathBuf> {
    let name = format!("{:x}.pub", Sha256::digest(key));
    let path = setup.workspace.keys_dir().join(name);
    file::keep(&path, &format!("{key}\n"))?;
    Ok(path)
}

/// Returns the path that ssh would make of this one of its configuration; `None` where that depends on more than the home.
fn expanded(text: &str, home: Option<&Path>) -> Option<PathBuf> {
    let text = match text.strip_prefix("~/").or_else(|| text.strip_prefix("%d/")) {
        Some(rest) => home?.join(rest).into_os_string().into_string().ok()?,
        None => text.to_owned(),
    };
    let whole = text.replace("%%", "");
    (text.starts_with('/') && !whole.contains('%') && !whole.contains("${"))
        .then(|| PathBuf::from(text.replace("%%", "%")))
}

/// Returns a path as ssh's configuration takes it.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::machine;
    use std::fs;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    fn file(path: &str, key: &str) -> KeyFile {
        KeyFile { path: path.into(), key: Some(key.into()) }
    }

    #[test]
    fn the_keys_that_open_the_machine_are_offered_and_each_once() {
        let files = [file("~/.ssh/id_rsa", "r R"), file("/h/.ssh/work", "w W"), file("/h/.ssh/copy", "w W")];
        for (authorized, agent, offered) in [
            // A file that the agent may hold too, one that it alone holds, one that is nowhere.
            (
                &["w W", "a A", "c C"][..],
                &["x X", "a A", "w W"][..],
                vec![Offer::File("/h/.ssh/work"), Offer::Agent("a A")],
            ),
            (&["c C"], &["x X"], vec![]),
            (&["w W", "w W"], &[], vec![Offer::File("/h/.ssh/work")]),
        ] {
            assert_eq!(offers(&strings(authorized), &strings(agent), &files), offered, "{authorized:?}");
        }
    }

    #[test]
    fn who_may_come_in_by_other_means_is_not_kept_out() {
        let ca =
            "cert-authority ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJJ/cF2XbAI+KlH9I9okb1YvimEsMrKOPVg5KTyq11t6";
        let mut web = machine();
        let own = web.admin_keys[0].key();
        assert_eq!(authorized(&web, "admin"), (vec![own.clone()], true));
        assert!(!authorized(&web, "deploy").1);
        web.admin_keys.push(ca.parse().unwrap());
        assert_eq!(authorized(&web, "admin"), (vec![own], false));
    }

    #[test]
    fn what_ssh_is_configured_for_is_read_of_ssh_itself() {
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
        assert_eq!(
            [variable("$MY_AGENT1"), variable("$(x)"), variable("/x")],
            [Some("MY_AGENT1"), None, None]
        );
    }

    #[test]
    fn a_key_is_known_by_its_public_half_whatever_its_file_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(".ssh");
        fs::create_dir(&folder).unwrap();
        let key = |name: &str, phrase: &str| {
            let path = folder.join(name);
            let keygen = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", phrase, "-f"]);
            keygen.arg(&path).output().unwrap();
            let public = fs::read_to_string(path.with_extension("pub")).unwrap();
            key_of(&public).unwrap()
        };
        let (work, locked) = (key("work_ed25519", ""), key("locked", "a passphrase"));
        // Its public half stands in the private file too, for everybody to read.
        fs::remove_file(folder.join("locked.pub")).unwrap();
        // A public half whose private one is elsewhere opens nothing.
        fs::write(folder.join("gone.pub"), "ssh-ed25519 AAAA gone\n").unwrap();
        let found = key_files(&strings(&["~/.ssh/locked", "~/.ssh/id_%h"]), Some(dir.path()));
        let path = folder.join("work_ed25519").display().to_string();
        assert_eq!(found, [file("~/.ssh/locked", &locked), file(&path, &work)]);
    }
}
