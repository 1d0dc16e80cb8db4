//! `create`: gathers what the command line, defaults, keys and the person at the terminal say.

use std::env;
use std::str::FromStr;

use serde_json::json;

use crate::config::{self, NewMachine};
use crate::error::{Failure, Result};
use crate::model::{MachineName, Port, ProfileName, Size, Vcpus};
use crate::ops::{self, Call, Setup, Watch};

use super::args::Create;
use super::commands::{machine_name, typed, wait};
use super::keys;
use super::network::network;
use super::prompt;
use super::show::{self, Shown};
use super::terminal::Terminal;

const NAME_INSTEAD: &str = "name the machine: `nixvm create NAME`";

/// Carries out `create`.
///
/// # Errors
/// A value is not valid, a question cannot be asked, or the operation fails.
pub fn run(call: &Call, args: &Create, terminal: &Terminal) -> Result<Shown> {
    terminal.rest();
    let (setup, new) = request(call, args, terminal)?;
    let setup = &setup;
    let machine = ops::declare(setup, &new, terminal)?;
    let folder = setup.workspace.machine_dir(&machine.name);
    if args.no_build {
        let declared = json!({ "machine": machine.name, "files": folder });
        return Ok(Shown::new(
            &declared,
            format!("next: nixvm create {} builds and defines it", machine.name),
        ));
    }
    let created = ops::create(setup, &machine, terminal)?;
    let mut result = show::json(&created)?;
    let name = &machine.name;
    if !(args.start || setup.wait) {
        return Ok(Shown::new(&result, format!("next: nixvm start {name} --wait, then nixvm ssh {name}")));
    }
    ops::start(setup, name, terminal)?;
    result["running"] = wait(setup, name, args.timeout, terminal)?;
    Ok(Shown::new(&result, format!("next: nixvm ssh {name}")))
}

/// Returns what is to be created and where, every value checked before anything is written.
fn request(call: &Call, args: &Create, terminal: &Terminal) -> Result<(Setup, NewMachine)> {
    // With a name everything else has a default; without one there is somebody to ask, or an error.
    let ask = args.name.is_none() && !args.yes;
    let name = match &args.name {
        Some(name) => machine_name(name)?,
        None => {
            prompt::text("Name of the machine", None, NAME_INSTEAD, |text| Ok(MachineName::from_str(text)?))?
        }
    };
    let setup = call.machine(&name)?;
    if ask && !args.no_build {
        // Before the other questions are answered for nothing.
        ops::preflight(&setup, &name, None)?;
    }
    let profile = match given(&args.profile_position, &args.profile) {
        Some(profile) => Some(typed(profile.parse())?),
        None if ask => Some(ask_profile(&setup)?),
        None => None,
    };
    if let Some(profile) = &profile {
        setup.workspace.check_profile(profile)?;
    }
    let network =
        network(&setup, given(&args.network_position, &args.network), ask.then_some("nat"), NAME_INSTEAD)?;
    if !args.no_build {
        ops::preflight(&setup, &name, network.as_ref())?;
    }
    let new = NewMachine {
        profile,
        memory: value(
            ask,
            "Memory in MiB, or with M, G [2048]",
            given(&args.memory_position, &args.memory),
            Size::parse_memory,
        )?,
        vcpus: value(ask, "Virtual CPUs [2]", given(&args.vcpus_position, &args.vcpus), Vcpus::from_str)?,
        var_size: value(
            ask,
            "Data disk in GiB, or with M, G, T [20G]",
            given(&args.var_size_position, &args.var_size),
            Size::parse_disk,
        )?,
        network,
        pool: Some(setup.pool.clone()),
        connection: Some(setup.connect.clone()),
        hostname: args.hostname.as_deref().map(|text| typed(text.parse())).transpose()?,
        tcp_ports: ports(&args.tcp_port)?,
        udp_ports: ports(&args.udp_port)?,
        admin_keys: None,
        user_keys: None,
        name,
    };
    let new = with_keys(&setup, args, new, terminal)?;
    Ok((setup, new))
}

/// Adds the keys of whoever creates the machine, unless its files hold some already.
fn with_keys(setup: &Setup, args: &Create, new: NewMachine, terminal: &Terminal) -> Result<NewMachine> {
    let named = args.keys.is_some() || args.from_agent || args.no_keys;
    let there = config::declared(&setup.workspace, &new.name)?.admin_keys;
    if !named && there.is_some_and(|keys| !keys.is_empty()) {
        return Ok(new);
    }
    let home = env::home_dir();
    let found = keys::find(args, home.as_deref())?;
    match found.keys.len() {
        0 => terminal.note(&format!("nobody can log in to {} by ssh: no key was given", new.name)),
        count => {
            terminal.note(&format!("admin of {} logs in with {count} key(s) from {}", new.name, found.source))
        }
    }
    Ok(NewMachine { admin_keys: Some(found.keys), ..new })
}

fn given<'a>(position: &'a Option<String>, flag: &'a Option<String>) -> Option<&'a str> {
    position.as_deref().or(flag.as_deref())
}

/// Returns a value that was typed or is asked for; `None` leaves it to the machine's files and their defaults.
fn value<T>(
    ask: bool,
    question: &str,
    given: Option<&str>,
    parse: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Option<T>> {
    match given {
        Some(text) => typed(parse(text)).map(Some),
        None if ask => prompt::text(question, None, NAME_INSTEAD, |text| match text {
            "" => Ok(None),
            text => Ok(Some(parse(text)?)),
        }),
        None => Ok(None),
    }
}

fn ask_profile(setup: &Setup) -> Result<ProfileName> {
    let profiles = ops::profiles(setup)?;
    let choices: Vec<String> = profiles.iter().map(|p| format!("{} - {}", p.name, p.description)).collect();
    let core = profiles.iter().position(|p| p.name.as_str() == "core").unwrap_or(0);
    let chosen = prompt::choose("Profile", &choices, core, NAME_INSTEAD)?;
    Ok(profiles[chosen].name.clone())
}

fn ports(given: &[String]) -> Result<Vec<Port>> {
    given.iter().map(|port| typed(port.parse())).collect()
}
