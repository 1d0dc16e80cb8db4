//! ssh to guests of another host, through that host.
//!
//! A NAT network, and the loopback on which QEMU forwards a guest's ssh, belong to that host and cannot be reached from here.
//! So ssh goes through it, logging in as libvirt does: as the connection's URI says, and otherwise by the user's own ssh
//! configuration and known hosts. The guest's key is checked on this computer.

use std::net::SocketAddr;
use std::time::Duration;

use crate::error::{Explain, Failure, Result};
use crate::exec::{self, Command};
use crate::host::Setup;
use crate::model::uri::Remote;

/// How long a login to the other host may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A host that guests are reached through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump(Remote);

impl Jump {
    /// Returns the host to go through; `None` where guests run on this one.
    pub fn of(setup: &Setup) -> Option<Self> {
        Remote::of(setup.connect.as_str()).map(Jump)
    }

    /// Returns the options that make ssh go through the host; with `batch`, the host asks for no password.
    pub fn options(&self, batch: bool) -> Vec<String> {
        // ssh replaces `%h` and `%p` and gives the line to a shell, which would expand the brackets.
        let plain = |text: String| text.replace('%', "%%");
        let (login, host) = (plain(self.login(batch).to_string()), plain(exec::quoted(&self.0.host)));
        vec!["-o".to_owned(), format!("ProxyCommand={login} -W '[%h]:%p' -- {host}")]
    }

    /// Returns the command that connects its input and output to an address of the host's networks.
    pub fn to(&self, endpoint: &SocketAddr) -> Command {
        self.login(true).arg("-W").arg(endpoint.to_string()).arg("--").arg(&self.0.host)
    }

    /// Checks that the host lets this user in without a password, and returns its name.
    pub fn check(&self) -> Result<&str> {
        let host = &self.0.host;
        let plain = ["-n", "-T", "-o", "RemoteCommand=none", "-o", "ClearAllForwardings=yes", "--"];
        let command = self.login(true).args(plain).args([host, "true"]);
        command.output_within(LIMIT).explain(|| {
            Failure::user(format!("ssh cannot log in to `{host}`, through which its guests are reached"))
                .hint("nixvm cannot ask for that host's password: give ssh a key with `ssh-add`, in ~/.ssh/config or as `keyfile=` in the URI")
        })?;
        Ok(host)
    }

    /// Returns ssh with every option for a login to the host, but without the host's name.
    fn login(&self, batch: bool) -> Command {
        let remote = &self.0;
        let program = remote.program.as_deref().unwrap_or("ssh");
        let mut command = Command::new(program).missing("install the OpenSSH client");
        if batch {
            command = command.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]);
        }
        if remote.unverified {
            command = command.args(["-o", "StrictHostKeyChecking=no"]);
        }
        if let Some(known_hosts) = &remote.known_hosts {
            command = command.arg("-o").arg(format!("UserKnownHostsFile=\"{known_hosts}\""));
        }
        let port = remote.port.map(|port| port.to_string());
        for (option, value) in [("-i", &remote.key), ("-p", &port), ("-l", &remote.user)] {
            command = command.args(value.iter().flat_map(|value| [option, value.as_str()]));
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jump(uri: &str) -> Jump {
        Jump(Remote::of(uri).unwrap())
    }

    #[test]
    fn ssh_goes_through_the_host_as_the_uri_says_and_else_as_its_user_does() {
        for (uri, line) in [
            ("qemu+ssh://host/system", "ssh -W '[%h]:%p' -- host"),
            ("qemu+tls://me@host:16514/system", "ssh -W '[%h]:%p' -- host"),
            (
                "qemu+ssh://root@[2001:db8::7]:2222/system?keyfile=/k%20y&no_verify=1&command=/opt/100%25/ssh",
                "/opt/100%%/ssh -o StrictHostKeyChecking=no -i '/k y' -p 2222 -l root -W '[%h]:%p' -- 2001:db8::7",
            ),
            (
                "qemu+libssh2://host/system?known_hosts=/k",
                "ssh -o 'UserKnownHostsFile=\"/k\"' -W '[%h]:%p' -- host",
            ),
            // What a shell would run is one word, and what begins with a hyphen is no option.
            ("qemu+ssh://-x;$(y)/system", "ssh -W '[%h]:%p' -- '-x;$(y)'"),
        ] {
            assert_eq!(jump(uri).options(false), ["-o", &format!("ProxyCommand={line}")], "{uri}");
        }
    }

    #[test]
    fn nobody_is_asked_in_the_background() {
        let jump = jump("qemu+ssh://me@host/system");
        assert_eq!(
            jump.to(&SocketAddr::from(([10, 0, 0, 7], 22))).to_string(),
            "ssh -o BatchMode=yes -o ConnectTimeout=10 -l me -W 10.0.0.7:22 -- host"
        );
        assert!(jump.options(true)[1].starts_with("ProxyCommand=ssh -o BatchMode=yes "));
    }
}
