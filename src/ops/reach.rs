//! `ssh` and `console`: ways into a guest.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config;
use crate::error::{Explain, Failure, Result};
use crate::exec::{self, Command};
use crate::hypervisor::Owned;
use crate::interrupt;
use crate::model::{MacAddress, Machine, MachineName};

use super::jump::Jump;
use super::{Setup, Watch};

/// How long a question that a guest is asked by ssh may take.
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// Returns where a machine's ssh is reached, as seen from the host that runs it; `None` while that is not known.
pub fn endpoint(domain: &Owned, mac: MacAddress) -> Option<SocketAddr> {
    match domain.metadata().ssh_port {
        // On QEMU's user network the guest's own address means nothing outside it.
        Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        None => domain.address(mac).map(|address| SocketAddr::new(address.ip, 22)),
    }
}

/// Waits until a machine's ssh server answers and returns where.
///
/// # Errors
/// Nothing answers within `limit`, or the machine goes off meanwhile.
pub fn wait_for_ssh(
    setup: &Setup,
    name: &MachineName,
    limit: Duration,
    watch: &dyn Watch,
) -> Result<SocketAddr> {
    let mac = config::load(&setup.workspace, name)?.mac;
    let domain = setup.hypervisor()?.own(name)?;
    // A host that lets nobody through would look like a guest that does not come up.
    Jump::of(setup).as_ref().map(Jump::check).transpose()?;
    watch.step(&format!("Waiting for {name} to answer ssh"));
    let began = Instant::now();
    let answered = interrupt::poll(limit, Duration::from_millis(500), || {
        if !domain.state()?.is_active() {
            return Err(Failure::user(format!("{name} went off while it was awaited"))
                .hint(format!("watch it boot with `nixvm start {name}` and `nixvm console {name}`"))
                .into());
        }
        Ok(endpoint(&domain, mac).filter(|at| answers_ssh(setup, at)))
    })?;
    let endpoint = answered.ok_or_else(|| {
        Failure::user(format!("{name} does not answer ssh after {} s", limit.as_secs())).hint(format!(
            "see what it is doing with `nixvm console {name}`, or wait longer with `--timeout`"
        ))
    })?;
    watch.done(&format!("{name} answers ssh at {endpoint} ({:.0} s)", began.elapsed().as_secs_f64()));
    Ok(endpoint)
}

/// Returns what a command in the guest prints that admin runs without being asked for anything; `None` where admin
/// cannot log in so, and where the command fails.
pub fn ask(machine: &Machine, setup: &Setup, endpoint: &SocketAddr, command: &str) -> Option<String> {
    let known_hosts = pin(setup, machine).ok()?;
    let mut options = ["-n", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"].map(str::to_owned).to_vec();
    options.extend(Jump::of(setup).into_iter().flat_map(|jump| jump.options(true)));
    let words = [command.to_owned()];
    let said = ssh_command(endpoint, "admin", &alias(&machine.name), &known_hosts, &options, &words)
        .output_within(ASK_LIMIT)
        .ok()?;
    String::from_utf8(said).ok()
}

/// Returns whether an ssh server answers there.
///
/// A forwarded port is open as soon as QEMU runs; only the banner shows that the guest is there.
///
/// A slow guest is given time for it: sshd(8) keeps out for a while who often comes and leaves without logging in
/// (`PerSourcePenalties` of sshd_config(5)), and on QEMU's user network everybody comes from one address.
pub fn answers_ssh(setup: &Setup, endpoint: &SocketAddr) -> bool {
    let limit = Duration::from_secs(15);
    if let Some(jump) = Jump::of(setup) {
        return jump.to(endpoint).output_within(limit).is_ok_and(|said| said.starts_with(b"SSH-"));
    }
    let mut banner = [0; 4];
    TcpStream::connect_timeout(endpoint, limit)
        .and_then(|mut stream| {
            stream.set_read_timeout(Some(limit)).and_then(|()| stream.read_exact(&mut banner))
        })
        .is_ok_and(|()| banner == *b"SSH-")
}

/// Returns the command that logs in to a machine, its host key pinned to the one in the machine's files.
///
/// # Errors
/// The machine is off or has no address yet; `known_hosts` cannot be written.
pub fn ssh(setup: &Setup, name: &MachineName, user: &str, command: &[String]) -> Result<Command> {
    if user.is_empty() || user.starts_with('-') || user.contains(['@', ' ', '\n']) {
        return Err(Failure::usage(format!("`{user}` is no user name"))
            .hint("users are `admin` and `user`")
            .into());
    }
    let machine = config::load(&setup.workspace, name)?;
    let domain = setup.hypervisor()?.own(name)?;
    if !domain.state()?.is_active() {
        return Err(Failure::user(format!("{name} is off"))
            .hint(format!("start it with `nixvm start {name} --wait`"))
            .into());
    }
    let endpoint = endpoint(&domain, machine.mac).ok_or_else(|| {
        Failure::user(format!("{name} has no address yet")).hint(format!(
            "it may still be booting: `nixvm start {name} --wait` waits, `nixvm console {name}` shows it"
        ))
    })?;
    let known_hosts = pin(setup, &machine)?;
    let options = Jump::of(setup).map(|jump| jump.options(false)).unwrap_or_default();
    Ok(ssh_command(&endpoint, user, &alias(name), &known_hosts, &options, command))
}

/// Returns the name under which ssh knows a machine, whatever its address.
fn alias(name: &MachineName) -> String {
    format!("nixvm-{name}")
}

/// Writes the machine's host key to a file of its own for ssh, and returns that.
fn pin(setup: &Setup, machine: &Machine) -> Result<PathBuf> {
    let known_hosts = setup.workspace.known_hosts_dir().join(machine.name.as_str());
    write(&known_hosts, &format!("{} {}\n", alias(&machine.name), machine.host_key.public_line()))?;
    Ok(known_hosts)
}

fn ssh_command(
    endpoint: &SocketAddr,
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
        .args(["-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=/dev/null"])
        .args(["-o", "UpdateHostKeys=no", "-o", "LogLevel=ERROR"])
        .arg("-o")
        .arg(format!("HostKeyAlias={alias}"))
        .arg("-o")
        .arg(hosts_option)
        .arg("-p")
        .arg(endpoint.port().to_string())
        .args(options)
        .arg("-l")
        .arg(user)
        .arg("--")
        .arg(endpoint.ip().to_string())
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

fn write(path: &Path, text: &str) -> Result<()> {
    let written = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, text)
    };
    written().explain(|| Failure::user(format!("cannot write `{}`", path.display())))
}

/// Joins a machine's serial console with the given terminal until ^] is typed or the machine goes away.
///
/// # Errors
/// The machine is off, or its console is in use.
pub fn console(
    setup: &Setup,
    name: &MachineName,
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
) -> Result<()> {
    let host = setup.hypervisor()?;
    host.own(name)?.console(&host, input, output, false).map(drop)
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
        let endpoint = SocketAddr::from(([10, 0, 0, 7], 22));
        let command = ssh_command(
            &endpoint,
            "admin",
            "nixvm-web",
            Path::new("/w o/known"),
            &[],
            &["echo".into(), "a b".into()],
        );
        assert_eq!(
            command.to_string(),
            "ssh -o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=/dev/null -o UpdateHostKeys=no -o LogLevel=ERROR \
             -o HostKeyAlias=nixvm-web -o 'UserKnownHostsFile=\"/w o/known\"' -p 22 -l admin -- 10.0.0.7 'echo '\\''a b'\\'''"
        );
    }
}
