//! The command line of ssh to a guest.
//!
//! ssh reads no configuration (`-F none`), the user's or the system's: what is right for the hosts that those were written
//! for (a jump, a shared connection, a command, another port) leads astray where the address is one of libvirt's network.
//! All that matters for a guest stands on the command line; [`identities`] brings what only the user's
//! configuration knows, which is where keys are kept. The way to another host, through which ssh may have to go, is
//! the user's own affair: [`Jump`] reads that configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Failure, Result};
use crate::exec::{self, Command};
use crate::file;
use crate::guest::ssh_config::option;
use crate::guest::{Jump, identities};
use crate::host::Setup;
use crate::model::{Machine, MachineName};

/// How long a question that a guest is asked by ssh may take.
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// Bytes that a guest may answer to such a question; what is asked for has kilobytes.
const LONGEST_ANSWER: u64 = 1 << 20;

/// Options of a login where nobody sits at it.
const BATCH: [&str; 5] = ["-n", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"];

/// Returns the command that logs in to a machine there, its host key pinned to the one in the machine's files.
pub fn login(
    setup: &Setup,
    machine: &Machine,
    at: &SocketAddr,
    user: &str,
    command: &[String],
) -> Result<Command> {
    if user.is_empty() || user.starts_with('-') || user.contains(['@', ' ', '\n']) {
        return Err(Failure::usage(format!("`{user}` is no user name"))
            .hint("users are `admin` and `user`")
            .into());
    }
    ssh(setup, machine, at, user, false, command)
}

/// Returns what a command in the guest prints that admin runs without being asked for anything; `None` where admin
/// cannot log in so, where the command fails, and where it prints more than a MiB.
pub fn ask(machine: &Machine, setup: &Setup, at: &SocketAddr, command: &str) -> Option<String> {
    let ssh = ssh(setup, machine, at, "admin", true, &[command.to_owned()]).ok()?;
    String::from_utf8(ssh.at_most(LONGEST_ANSWER).output_within(ASK_LIMIT).ok()?).ok()
}

fn ssh(
    setup: &Setup,
    machine: &Machine,
    at: &SocketAddr,
    user: &str,
    batch: bool,
    command: &[String],
) -> Result<Command> {
    let known_hosts = pin(setup, machine)?;
    let mut options = if batch { BATCH.map(str::to_owned).to_vec() } else { Vec::new() };
    options.extend(Jump::of(setup).into_iter().flat_map(|jump| jump.options(batch)));
    options.extend(identities::options(setup, machine, user, at, batch)?);
    Ok(ssh_command(at, user, &alias(&machine.name), &known_hosts, &options, command))
}

/// Returns the name under which ssh knows a machine, whatever its address.
fn alias(name: &MachineName) -> String {
    format!("nixvm-{name}")
}

/// Writes the machine's host key to a file of its own for ssh, and returns that.
fn pin(setup: &Setup, machine: &Machine) -> Result<PathBuf> {
    let known_hosts = setup.workspace.known_hosts_dir().join(machine.name.as_str());
    file::keep(&known_hosts, &format!("{} {}\n", alias(&machine.name), machine.host_key.public_line()))?;
    Ok(known_hosts)
}

fn ssh_command(
    at: &SocketAddr,
    user: &str,
    alias: &str,
    known_hosts: &Path,
    options: &[String],
    command: &[String],
) -> Command {
    let (hosts_option, environment) = known_hosts_option(known_hosts);
    let mut ssh = Command::new("ssh");
    if let Some((name, value)) = environment {
        ssh = ssh.env(name, value);
    }
    ssh.missing("install the OpenSSH client")
        .args(["-F", "none"])
        .args(["-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=/dev/null"])
        .args(["-o", "UpdateHostKeys=no", "-o", "LogLevel=ERROR"])
        // One a second: what is connected to is known to run, but behind a managed save its card takes a moment.
        .args(["-o", "ConnectionAttempts=5"])
        .args(option("HostKeyAlias", alias))
        .arg("-o")
        .arg(hosts_option)
        .arg("-p")
        .arg(at.port().to_string())
        .args(options)
        .arg("-l")
        .arg(user)
        .arg("--")
        .arg(at.ip().to_string())
        .args(remote_words(command))
}

/// Returns the option that names the file of host keys, and an environment variable that it refers to.
///
/// ssh splits the value at white space unless it is quoted, and then replaces `%d` and `${HOME}` in it. What it takes from
/// the environment it takes as it is; but before OpenSSH 8.4 it did not.
fn known_hosts_option(file: &Path) -> (String, Option<(&'static str, &Path)>) {
    const VARIABLE: &str = "NIXVM_KNOWN_HOSTS";
    if file.as_os_str().as_encoded_bytes().iter().any(|byte| b"\"\\%$".contains(byte)) {
        return (format!("UserKnownHostsFile=${{{VARIABLE}}}"), Some((VARIABLE, file)));
    }
    (format!("UserKnownHostsFile=\"{}\"", file.display()), None)
}

/// One word is a line for the shell in the guest, as with ssh itself. ssh joins several with blanks and so loses where
/// each ends; quoted, they arrive as they are here.
fn remote_words(command: &[String]) -> Option<String> {
    match command {
        [] => None,
        [line] => Some(line.clone()),
        words => Some(words.iter().map(|word| exec::quoted(word)).collect::<Vec<_>>().join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_finds_the_host_keys_in_a_folder_of_any_name() {
        for (name, plain) in [
            ("a b", true),
            ("é#?&+=~'", true),
            ("%d", false),
            (r"a\b", false),
            ("\"", false),
            ("${HOME}$x", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join(name);
            let (option, environment) = known_hosts_option(&file);
            assert_eq!(environment.is_none(), plain, "{option}");
            let mut ssh = Command::new("ssh").args(["-G", "-F", "none", "-o"]).arg(option).arg("host");
            if let Some((name, value)) = environment {
                ssh = ssh.env(name, value);
            }
            let shown = String::from_utf8(ssh.output().unwrap()).unwrap();
            let line = format!("userknownhostsfile {}\n", file.display());
            assert!(shown.contains(&line), "{name}: {shown}");
        }
    }

    #[test]
    fn the_host_key_is_pinned_and_words_reach_the_guest_whole() {
        let at = SocketAddr::from(([10, 0, 0, 7], 22));
        let options = option("IdentityFile", "~/.ssh/work");
        let words = ["echo".into(), "a b".into()];
        let command = ssh_command(&at, "admin", "nixvm-web", Path::new("/w o/known"), &options, &words);
        assert_eq!(
            command.argv(),
            [
                "ssh",
                "-F",
                "none",
                "-o",
                "StrictHostKeyChecking=yes",
                "-o",
                "GlobalKnownHostsFile=/dev/null",
                "-o",
                "UpdateHostKeys=no",
                "-o",
                "LogLevel=ERROR",
                "-o",
                "ConnectionAttempts=5",
                "-o",
                "HostKeyAlias=nixvm-web",
                "-o",
                "UserKnownHostsFile=\"/w o/known\"",
                "-p",
                "22",
                "-o",
                "IdentityFile=~/.ssh/work",
                "-l",
                "admin",
                "--",
                "10.0.0.7",
                "echo 'a b'",
            ]
        );
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
