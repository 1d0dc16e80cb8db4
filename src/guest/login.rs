//! The command line of ssh to a guest.
//!
//! ssh reads no configuration, the user's or the system's (`-F none`): options that are right for other hosts (a jump, a shared
//! connection, a command, another port) break a login to an address of libvirt's network. `identities` adds what only the
//! user's configuration knows, which is where keys are kept. The login to another host on the way does follow the user's
//! configuration: see [`Jump`].

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::error::{Failure, Result};
use crate::exec::{self, Command};
use crate::file;
use crate::guest::ssh_config::option;
use crate::guest::{Jump, identities};
use crate::host::Setup;
use crate::model::Machine;

/// How long a command that collects information may take.
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// Longest output of such a command, in bytes; kilobytes are expected.
const LONGEST_ANSWER: u64 = 1 << 20;

/// Options of a login without a user at the terminal.
const BATCH: [&str; 5] = ["-n", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"];

/// Returns the command that logs in to a machine at that address, its host key pinned to the one in the machine's files.
pub fn login(
    setup: &Setup,
    machine: &Machine,
    at: &SocketAddr,
    user: &str,
    command: &[String],
) -> Result<Command> {
    if user.is_empty() || user.starts_with('-') || user.contains(['@', ' ', '\n']) {
        return Err(Failure::usage(format!("`{user}` is not a user name"))
            .hint("every machine has the users `admin` and `user`")
            .into());
    }
    ssh(setup, machine, at, user, false, command)
}

/// Returns the output of a command that admin runs in the guest without a password; `None` where the login or the command
/// fails, and where it prints more than a MiB.
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
    // The name under which ssh knows the machine, whatever its address.
    let alias = format!("nixvm-{}", machine.name);
    let known_hosts = setup.workspace.known_hosts_dir().join(machine.name.as_str());
    file::keep(&known_hosts, &format!("{alias} {}\n", machine.host_key.public_line()))?;
    let mut options: Vec<String> = BATCH.into_iter().filter(|_| batch).map(str::to_owned).collect();
    options.extend(Jump::of(setup).into_iter().flat_map(|jump| jump.options(batch)));
    options.extend(identities::options(setup, machine, user, at, batch)?);
    Ok(ssh_command(at, user, &alias, &known_hosts, &options, command))
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
        // One a second: the guest is known to run, but after a managed save its network card takes a moment.
        .args(["-o", "ConnectionAttempts=5"])
        .args(option("HostKeyAlias", alias))
        .args(["-o", &hosts_option, "-p", &at.port().to_string()])
        .args(options)
        .args(["-l", user, "--", &at.ip().to_string()])
        .args(remote_words(command))
}

/// Returns the option that names the file of host keys, and an environment variable that it refers to.
///
/// ssh splits the value at white space unless it is quoted, and then replaces `%d` and `${HOME}` in it. It does not change a
/// value that it takes from the environment, which it can since OpenSSH 8.4.
fn known_hosts_option(file: &Path) -> (String, Option<(&'static str, &Path)>) {
    const VARIABLE: &str = "NIXVM_KNOWN_HOSTS";
    if file.as_os_str().as_encoded_bytes().iter().any(|byte| b"\"\\%$".contains(byte)) {
        return (format!("UserKnownHostsFile=${{{VARIABLE}}}"), Some((VARIABLE, file)));
    }
    (format!("UserKnownHostsFile=\"{}\"", file.display()), None)
}

/// Returns the command for the shell in the guest. A single word is a line for that shell, as with ssh itself. ssh joins several
/// with blanks, so they are quoted to arrive as they are.
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
}
