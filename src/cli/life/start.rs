//! `start` and `reboot`.

use crate::cli::{Machines, SSH_LIMIT, Shown, SshTimeout, Terminal, each, wait};
use crate::error::Result;
use crate::ops::{self, Call};

#[derive(Debug, clap::Args)]
pub struct Start {
    #[command(flatten)]
    machines: Machines,
    #[command(flatten)]
    ssh: SshTimeout,
}

pub fn start(call: &Call, args: &Start, terminal: &Terminal) -> Result<Shown> {
    each(call, &args.machines, |setup, name| {
        ops::start(setup, name, terminal)?;
        wait(setup, name, &args.ssh, terminal)
    })
}

pub fn reboot(call: &Call, args: &Start, terminal: &Terminal) -> Result<Shown> {
    each(call, &args.machines, |setup, name| {
        ops::reboot(setup, name, SSH_LIMIT, terminal)?;
        wait(setup, name, &args.ssh, terminal)
    })
}
