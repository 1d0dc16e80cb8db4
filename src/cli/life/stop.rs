//! `stop` and `force-stop`.

use crate::cli::{Names, Shown, Shutdown, Terminal, each};
use crate::error::Result;
use crate::ops::{self, Call};

#[derive(Debug, clap::Args)]
pub struct Stop {
    #[command(flatten)]
    machines: Names,
    #[command(flatten)]
    shutdown: Shutdown,
}

pub fn stop(call: &Call, args: &Stop, terminal: &Terminal) -> Result<Shown> {
    let limit = args.shutdown.timeout;
    each(call, &args.machines.names, |setup, name| ops::stop(setup, name, limit, terminal))
}

pub fn force_stop(call: &Call, args: &Names, terminal: &Terminal) -> Result<Shown> {
    each(call, &args.names, |setup, name| ops::force_stop(setup, name, terminal))
}
