//! `start` and `reboot`.

use serde_json::Value;

use crate::cli::{Cost, Machines, SSH_LIMIT, Shown, SshTimeout, Terminal, each, wait};
use crate::error::Result;
use crate::ops::{self, Call, Needs};

#[derive(Debug, clap::Args)]
pub struct Start {
    #[command(flatten)]
    machines: Machines,
    #[command(flatten)]
    ssh: SshTimeout,
}

pub fn start(call: &Call, args: &Start, terminal: &Terminal) -> Result<Shown> {
    let selection = args.machines.select(call)?;
    each(call, &selection, Needs::Domain, Cost::Waiting, terminal)?.shown(
        |setup, name, terminal| {
            ops::start(setup, name, terminal)?;
            wait(setup, name, &args.ssh, terminal)
        },
        word,
    )
}

pub fn reboot(call: &Call, args: &Start, terminal: &Terminal) -> Result<Shown> {
    let selection = args.machines.select(call)?;
    each(call, &selection, Needs::Domain, Cost::Waiting, terminal)?.shown(
        |setup, name, terminal| {
            ops::reboot(setup, name, SSH_LIMIT, terminal)?;
            wait(setup, name, &args.ssh, terminal)
        },
        word,
    )
}

fn word(running: &Value) -> String {
    match running["ssh"].as_str() {
        Some(address) => format!("running, ssh at {address}"),
        None => "running".into(),
    }
}
