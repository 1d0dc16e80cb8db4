//! libvirt's network `default`, and the firewall that its guests' traffic goes through.

use std::ffi::OsStr;
use std::path::Path;

use crate::error::Result;
use crate::host::subnet::{self, DEFAULT};
use crate::hypervisor::{Hypervisor, VirtualNetwork};
use crate::ops::look::doctor::check::Check;
use crate::ops::look::doctor::firewall;

const NAME: &str = "network";

/// Returns how libvirt's network stands, and for this host its firewall.
pub fn checks(host: &Hypervisor, path: &OsStr) -> Vec<Check> {
    if host.is_session() {
        return vec![Check::good(NAME, "a session has the `user` network")];
    }
    let found = find(host);
    let bridge = found.as_ref().ok().and_then(|found| found.as_ref()?.bridge.clone());
    let mut checks = Vec::new();
    if host.is_local() {
        if let Ok(Some(network)) = &found {
            checks.push(firewall::check(network, path));
        }
        checks.push(firewall::ufw(Path::new("/etc/ufw"), bridge.as_deref().unwrap_or("virbr0")));
    }
    checks.splice(0..0, network(host, found));
    checks
}

fn find(host: &Hypervisor) -> Result<Option<VirtualNetwork>> {
    Ok(host.networks()?.into_iter().find(|network| network.name == DEFAULT))
}

fn network(host: &Hypervisor, found: Result<Option<VirtualNetwork>>) -> Vec<Check> {
    let faults = found.and_then(|network| Ok((network, subnet::faults(host)?)));
    match faults {
        Err(error) => vec![Check::of::<()>(NAME, Err(error), |()| Check::good(NAME, ""))],
        Ok((_, faults)) if !faults.is_empty() => {
            let told = |fault: subnet::Fault| {
                Check::warning(NAME, format!("libvirt's `{DEFAULT}` {}", fault.finding), fault.fix)
            };
            faults.into_iter().map(told).collect()
        }
        Ok((found, _)) => vec![Check::good(
            NAME,
            match found.map(|network| network.runs) {
                Some(true) => "libvirt's `default` is up",
                Some(false) => "libvirt's `default` is down; the first `create` starts it",
                None => "libvirt has no `default`; the first `create` makes it",
            },
        )],
    }
}
