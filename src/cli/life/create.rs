//! `create`: its values come from the command line, from defaults and from the person at the terminal.

use std::env;
use std::str::FromStr;

use serde_json::json;

use crate::cli::{
    Shown, SshTimeout, Terminal, given, machine_name, network, optional, prompt, shown, typed, wait,
};
use crate::config::{self, NewMachine};
use crate::error::{Failure, Result};
use crate::model::{MachineName, Port, ProfileName, Size, Vcpus};
use crate::ops::{self, Call, Setup, Watch};

use crate::cli::keys::{self, Keys};

const NAME_INSTEAD: &str = "name the machine: `nixvm create NAME`";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm create web
  nixvm create web docker 4096 4 50G bridge:br0
  nixvm create web --memory 4G --start --wait
  nixvm create web --keys ~/.ssh/id_ed25519.pub --tcp-port 8080

Files that machines/NAME already has are kept; only missing ones are written.")]
pub struct Create {
    /// Name of the machine: lower-case letters, digits and dashes
    name: Option<String>,
    /// Profile [default: core]
    #[arg(value_name = "PROFILE", conflicts_with = "profile")]
    profile_position: Option<String>,
    /// Memory in MiB, or with K, M, G, T [default: 2048]
    #[arg(value_name = "MEMORY", conflicts_with = "memory")]
    memory_position: Option<String>,
    /// Number of virtual CPUs [default: 2]
    #[arg(value_name = "VCPUS", conflicts_with = "vcpus")]
    vcpus_position: Option<String>,
    /// Size of the data disk in GiB, or with K, M, G, T [default: 20G]
    #[arg(value_name = "VAR_SIZE", conflicts_with = "var_size")]
    var_size_position: Option<String>,
    /// Network: nat, bridge, bridge:IF or user [default: nat]
    #[arg(value_name = "NETWORK", conflicts_with = "network")]
    network_position: Option<String>,

    /// The same as PROFILE, by name
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
    /// The same as MEMORY, by name
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// The same as VCPUS, by name
    #[arg(long, value_name = "N")]
    vcpus: Option<String>,
    /// The same as VAR_SIZE, by name
    #[arg(long, value_name = "SIZE")]
    var_size: Option<String>,
    /// The same as NETWORK, by name
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,

    /// Host name in the guest [default: NAME]
    #[arg(long, value_name = "HOSTNAME")]
    hostname: Option<String>,
    #[command(flatten)]
    keys: Keys,
    /// Open a TCP port beside 22, 80 and 443 (may be repeated)
    #[arg(long, value_name = "PORT")]
    tcp_port: Vec<String>,
    /// Open a UDP port (may be repeated)
    #[arg(long, value_name = "PORT")]
    udp_port: Vec<String>,
    /// Start the machine together with its host
    #[arg(long)]
    autostart: bool,
    /// Only write machines/NAME; build and define nothing
    #[arg(long, conflicts_with = "start")]
    no_build: bool,
    /// Start the machine
    #[arg(long)]
    start: bool,
    #[command(flatten)]
    ssh: SshTimeout,
    /// Ask nothing; use the defaults
    #[arg(short, long)]
    yes: bool,
}

pub fn run(call: &Call, args: &Create, terminal: &Terminal) -> Result<Shown> {
    terminal.rest();
    let (setup, new) = request(call, args, terminal)?;
    let setup = &setup;
    let machine = ops::declare(setup, &new, terminal)?;
    let name = &machine.name;
    if args.no_build {
        let declared = json!({ "machine": name, "files": setup.workspace.machine_dir(name) });
        return Ok(Shown::new(&declared, format!("next: nixvm create {name} builds and defines it")));
    }
    let mut result = shown::json(&ops::create(setup, &machine, None, terminal)?)?;
    if !(args.start || setup.wait) {
        return Ok(Shown::new(&result, format!("next: nixvm start {name} --wait, then nixvm ssh {name}")));
    }
    ops::start(setup, name, terminal)?;
    result["running"] = wait(setup, name, &args.ssh, terminal)?;
    Ok(Shown::new(&result, format!("next: nixvm ssh {name}")))
}

/// Checks every value before anything is written.
fn request(call: &Call, args: &Create, terminal: &Terminal) -> Result<(Setup, NewMachine)> {
    // With a name, everything else has a default; without one, a person is asked for everything.
    let ask = args.name.is_none() && !args.yes;
    let name = match &args.name {
        Some(name) => machine_name(name)?,
        None => {
            prompt::text("Name of the machine", None, NAME_INSTEAD, |text| Ok(MachineName::from_str(text)?))?
        }
    };
    let setup = call.machine(&name)?;
    if ask && !args.no_build {
        // Nobody should answer the other questions only to hear that the machine exists.
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
    let wanted = given(&args.network_position, &args.network);
    let network = network(&setup, wanted, ask.then_some("nat"), NAME_INSTEAD)?;
    if !args.no_build {
        ops::preflight(&setup, &name, network.as_ref())?;
    }
    let memory = given(&args.memory_position, &args.memory);
    let vcpus = given(&args.vcpus_position, &args.vcpus);
    let var_size = given(&args.var_size_position, &args.var_size);
    let new = NewMachine {
        profile,
        memory: value(ask, "Memory in MiB, or with M, G [2048]", memory, Size::parse_memory)?,
        vcpus: value(ask, "Virtual CPUs [2]", vcpus, Vcpus::from_str)?,
        var_size: value(ask, "Data disk in GiB, or with M, G, T [20G]", var_size, Size::parse_disk)?,
        network,
        autostart: args.autostart.then_some(true),
        pool: Some(setup.pool.clone()),
        libvirt: Some(setup.libvirt()),
        hostname: optional(args.hostname.as_deref(), str::parse)?,
        tcp_ports: ports(&args.tcp_port)?,
        udp_ports: ports(&args.udp_port)?,
        admin_keys: None,
        user_keys: None,
        name,
    };
    let new = with_keys(&setup, args, new, terminal)?;
    Ok((setup, new))
}

/// Adds admin's keys, unless none were named and the machine's files hold some already.
fn with_keys(setup: &Setup, args: &Create, new: NewMachine, terminal: &Terminal) -> Result<NewMachine> {
    let there = config::declared(&setup.workspace, &new.name)?.admin_keys;
    if !args.keys.named() && there.is_some_and(|keys| !keys.is_empty()) {
        return Ok(new);
    }
    let found = keys::find(&args.keys, !args.yes, env::home_dir().as_deref())?;
    match found.keys.len() {
        0 => terminal.note(&format!("nobody can log in to {} by ssh: it has no key", new.name)),
        count => terminal.note(&format!("admin of {} has {count} key(s) from {}", new.name, found.source)),
    }
    Ok(NewMachine { admin_keys: Some(found.keys), ..new })
}

/// Returns a value that was typed or asked for; `None` leaves it to the machine's files and their defaults.
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
