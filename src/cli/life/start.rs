//! `start` and `reboot`.

use std::collections::BTreeSet;

use crate::cli::{Names, SSH_LIMIT, Shown, SshTimeout, Terminal, each, in_order, machine_name, wait};
use crate::error::Result;
use crate::model::MachineName;
use crate::ops::{self, Call};

#[derive(Debug, clap::Args)]
pub struct Start {
    #[command(flatten)]
    machines: Names,
    #[command(flatten)]
    ssh: SshTimeout,
}

pub fn start(call: &Call, args: &Start, terminal: &Terminal) -> Result<Shown> {
    let names = args.machines.names.iter().map(|name| machine_name(name));
    let names = names.collect::<Result<BTreeSet<MachineName>>>()?;
    let limit = args.ssh.timeout.unwrap_or(SSH_LIMIT);
    in_order(call, &ops::start_order(call, &names)?, |setup, name| {
        ops::wait_for_others(call, name, &names, limit, terminal)?;
        ops::start(setup, name, terminal)?;
        wait(setup, name, &args.ssh, terminal)
    })
}

pub fn reboot(call: &Call, args: &Start, terminal: &Terminal) -> Result<Shown> {
    each(call, &args.machines.names, |setup, name| {
        ops::reboot(setup, name, SSH_LIMIT, terminal)?;
        wait(setup, name, &args.ssh, terminal)
    })
}
