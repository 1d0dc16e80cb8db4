//! The question for a machine's network.

use crate::error::{Failure, Result};
use crate::model::Network;
use crate::model::uri::Remote;
use crate::ops::Setup;

use super::commands::typed;
use super::prompt;

/// Returns the network that was typed, or is asked for if `default` names what Enter means; `bridge` alone asks which
/// of this host's bridges is meant.
///
/// # Errors
/// It is none, or there is nobody to ask; `instead` says what answers the question there. `bridge` alone, and the
/// machine is another host's.
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
    if let Some(remote) = Remote::of(setup.connect.as_str()) {
        return Err(Failure::usage(format!("the bridges of `{}` cannot be seen from here", remote.host))
            .hint("name the bridge: `bridge:IF`; `ip -br link show type bridge` lists them there")
            .into());
    }
    let bridges = bridges();
    let instead = "name the bridge: `bridge:IF`; `ip -br link show type bridge` lists them";
    match bridges.len() {
        0 => Err(Failure::user("this host has no bridge")
            .hint("docs/networking.md shows how to make one")
            .into()),
        _ => {
            let chosen = prompt::choose("Bridge", &bridges, 0, instead)?;
            typed(bridges[chosen].parse()).map(|interface| Some(Network::Bridge(interface)))
        }
    }
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
