//! `stop` and `force-stop`.

use crate::cli::{Machines, Shown, Shutdown, Terminal, each};
use crate::error::Result;
use crate::ops::{self, Call};

#[derive(Debug, clap::Args)]
pub struct Stop {
    #[command(flatten)]
    machines: Machines,
    #[command(flatten)]
    shutdown: Shutdown,
}

pub fn stop(call: &Call, args: &Stop, terminal: &Terminal) -> Result<Shown> {
    let limit = args.shutdown.timeout;
    each(call, &args.machines, |setup, name| ops::stop(setup, name, limit, terminal))
}

pub fn force_stop(call: &Call, args: &Machines, terminal: &Terminal) -> Result<Shown> {
    each(call, args, |setup, name| ops::force_stop(setup, name, terminal))
}
