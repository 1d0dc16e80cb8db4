//! Which of a person's ssh keys are offered to a guest.
//!
//! sshd disconnects after six keys (`MaxAuthTries` of sshd_config(5)), and an agent may hold more. The machine's files say who may
//! log in, so only the keys that open it are offered, whatever their files are called. If none of them is found, ssh offers what
//! it would by itself: a certificate, a key on a card, one that `extra.nix` lets in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::exec::Command;
use crate::file;
use crate::guest::key_files::{KeyFile, key_files, key_of};
use crate::guest::ssh_config::{Configured, escaped, expanded, option};
use crate::host::Setup;
use crate::model::{AuthorizedKey, Machine};

/// How long an agent may take to list its keys.
const AGENT_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Offer<'a> {
    /// The key in this file.
    File(&'a str),
    /// This key, `TYPE BASE64`, which the agent holds.
    Agent(&'a str),
}

/// Returns the options with which ssh offers the keys that open `user`'s account; `batch` if no user is at the terminal.
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
        options.extend(match offer {
            Offer::File(path) => option("IdentityFile", path),
            Offer::Agent(key) => option("IdentityFile", &escaped(&public_file(setup, key)?)),
        });
    }
    let only = certain && !offers.is_empty();
    if !only {
        let given = configured.identities.iter().map(|path| option("IdentityFile", path));
        let certificates = configured.certificates.iter().map(|path| option("CertificateFile", path));
        options.extend(given.chain(certificates).flatten());
    }
    options.extend(option("IdentitiesOnly", if only || configured.only { "yes" } else { "no" }));
    // ssh would wait for an agent that does not answer.
    let socket = if mute { Some("none") } else { configured.agent.as_deref() };
    options.extend(socket.into_iter().flat_map(|socket| option("IdentityAgent", socket)));
    options.extend(configured.taken_over(batch));
    Ok(options)
}

/// Returns the keys, `TYPE BASE64`, that open `user`'s account, and whether these are certainly all.
fn authorized(machine: &Machine, user: &str) -> (Vec<String>, bool) {
    let (lines, known): (Vec<&AuthorizedKey>, bool) = match user {
        "admin" => (machine.admin_keys.iter().collect(), true),
        "user" => (machine.user_keys.iter().collect(), true),
        // The user's own configuration may let the machine's owner in to this account too.
        _ => (machine.admin_keys.iter().chain(&machine.user_keys).collect(), false),
    };
    let authority = lines.iter().any(|line| line.is_authority());
    let keys = lines.iter().filter(|line| !line.is_authority()).map(|line| line.key()).collect();
    (keys, known && !authority)
}

/// Returns the authorised keys that are on this computer, each once: by its file, if it has one, or else from the agent.
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

/// Returns the keys that the agent holds, and whether it did not answer in time.
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

/// Returns the environment variable with the agent's socket, where ssh is configured to use one: `$NAME`.
fn variable(socket: &str) -> Option<&str> {
    socket.strip_prefix('$').filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

/// Writes the public half of a key to a file with which ssh asks its agent for the key, and returns the file.
fn public_file(setup: &Setup, key: &str) -> Result<PathBuf> {
    let name = format!("{:x}.pub", Sha256::digest(key));
    let path = setup.workspace.keys_dir().join(name);
    file::keep(&path, &format!("{key}\n"))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::machine;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_keys_that_open_the_machine_are_offered_and_each_once() {
        let file = |path: &str, key: &str| KeyFile { path: path.into(), key: Some(key.into()) };
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
    fn an_agent_may_be_named_by_a_variable() {
        assert_eq!(
            [variable("$MY_AGENT1"), variable("$(x)"), variable("/x")],
            [Some("MY_AGENT1"), None, None]
        );
    }
}
