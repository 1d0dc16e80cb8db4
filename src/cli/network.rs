//! The network of a machine, as typed or as chosen from a list.

use crate::error::{Failure, Result};
use crate::model::Network;
use crate::model::uri::Remote;
use crate::ops::Setup;

use super::input::typed;
use super::prompt;

/// Returns the network that was typed. If none was, asks for one where `default` says what Enter means. For `bridge`
/// alone, takes the bridge of its host in the file `hosts`, or asks which of this host's bridges is meant.
pub fn network(
    setup: &Setup,
    given: Option<&str>,
    default: Option<&str>,
    instead: &str,
) -> Result<Option<Network>> {
    let text = match (given, default) {
        (Some(text), _) => text.to_owned(),
        (None, Some(default)) => {
            prompt::text("Network (nat, bridge, user)", Some(default), instead, |text| Ok(text.to_owned()))?
        }
        (None, None) => return Ok(None),
    };
    if text != "bridge" {
        return typed(text.parse()).map(Some);
    }
    if let Some(bridge) = setup.host.as_ref().and_then(|host| host.bridge.clone()) {
        return Ok(Some(Network::Bridge(bridge)));
    }
    let hint = "name the bridge: `bridge:IF`; `ip -br link show type bridge` lists them";
    if let Some(remote) = Remote::of(setup.connect.as_str()) {
        return Err(Failure::usage(format!("nixvm cannot see the bridges of `{}` from here", remote.host))
            .hint(format!("{hint} on that host"))
            .into());
    }
    let bridges = bridges();
    if bridges.is_empty() {
        return Err(Failure::user("this host has no bridge")
            .hint("docs/networking.md shows how to make one")
            .into());
    }
    let chosen = prompt::choose("Bridge", &bridges, 0, hint)?;
    typed(bridges[chosen].parse()).map(|interface| Some(Network::Bridge(interface)))
}

fn bridges() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.path().join("bridge").is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}
