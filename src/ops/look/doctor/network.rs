//! libvirt's network `default`, and the firewall that its guests' traffic passes.

use std::ffi::OsStr;
use std::path::Path;

use crate::error::Result;
use crate::host::subnet::{self, DEFAULT};
use crate::hypervisor::{Hypervisor, VirtualNetwork};

use super::check::Check;
use super::firewall;

const NAME: &str = "network";

/// Checks libvirt's network, and on this host the firewall.
pub fn checks(host: &Hypervisor, path: &OsStr) -> Vec<Check> {
    if host.is_session() {
        return vec![Check::good(NAME, "a session has the `user` network")];
    }
    let found = host.networks().map(|all| all.into_iter().find(|network| network.name == DEFAULT));
    let network = found.as_ref().ok().and_then(Option::as_ref);
    let mut checks = match &found {
        Ok(found) => {
            self::network(host, found.as_ref()).unwrap_or_else(|error| vec![Check::failed(NAME, &error)])
        }
        Err(error) => vec![Check::failed(NAME, error)],
    };
    if host.is_local() {
        checks.extend(network.map(|network| firewall::check(network, path)));
        let bridge = network.and_then(|network| network.bridge.as_deref()).unwrap_or("virbr0");
        checks.push(firewall::ufw(Path::new("/etc/ufw"), bridge));
    }
    checks
}

fn network(host: &Hypervisor, found: Option<&VirtualNetwork>) -> Result<Vec<Check>> {
    let faults = subnet::faults(host)?;
    if faults.is_empty() {
        let finding = match found.map(|network| network.runs) {
            Some(true) => "libvirt's `default` is up",
            Some(false) => "libvirt's `default` is down; the first `create` starts it",
            None => "libvirt has no `default`; the first `create` makes it",
        };
        return Ok(vec![Check::good(NAME, finding)]);
    }
    let warning = |fault: subnet::Fault| {
        Check::warning(NAME, format!("libvirt's `{DEFAULT}` {}", fault.finding), fault.fix)
    };
    Ok(faults.into_iter().map(warning).collect())
}
