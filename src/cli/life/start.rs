//! `start` and `reboot`.

use serde_json::Value;

use crate::cli::{Cost, Machines, SSH_LIMIT, Shown, SshTimeout, Terminal, each, wait};
use crate::error::Result;
use crate::model::MachineName;
use crate::ops::{self, Call, Needs, Setup};

#[derive(Debug, clap::Args)]
pub struct Start {
    #[command(flatten)]
    machines: Machines,
    #[command(flatten)]
    ssh: SshTimeout,
}

pub fn start(call: &Call, args: &Start, terminal: &Terminal) -> Result<Shown> {
    let selection = args.machines.select(call)?;
    let names = selection.names();
    let limit = args.ssh.timeout.unwrap_or(SSH_LIMIT);
    let start = |setup: &Setup, name: &MachineName, terminal: &Terminal| {
        ops::wait_for_others(call, name, &names, limit, terminal)?;
        ops::start(setup, name, terminal)?;
        wait(setup, name, &args.ssh, terminal)
    };
    each(call, &selection, Needs::Domain, Cost::Waiting, terminal)?
        .ordered(ops::start_order(call, &names)?)
        .shown(start, word)
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
