//! `stop` and `force-stop`.

use crate::cli::{Cost, Machines, Shown, Shutdown, Terminal, each};
use crate::error::Result;
use crate::ops::{self, Call, Needs, Stopped};

#[derive(Debug, clap::Args)]
pub struct Stop {
    #[command(flatten)]
    machines: Machines,
    #[command(flatten)]
    shutdown: Shutdown,
}

pub fn stop(call: &Call, args: &Stop, terminal: &Terminal) -> Result<Shown> {
    let (selection, limit) = (args.machines.select(call)?, args.shutdown.timeout);
    each(call, &selection, Needs::Domain, Cost::Waiting, terminal)?
        .shown(|setup, name, terminal| ops::stop(setup, name, limit, terminal), word)
}

pub fn force_stop(call: &Call, args: &Machines, terminal: &Terminal) -> Result<Shown> {
    let selection = args.select(call)?;
    each(call, &selection, Needs::Domain, Cost::Waiting, terminal)?
        .shown(|setup, name, terminal| ops::force_stop(setup, name, terminal), word)
}

fn word(stopped: &Stopped) -> String {
    if stopped.ended.is_some() { "off" } else { "off already" }.into()
}
