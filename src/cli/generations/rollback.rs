use std::time::Duration;

use crate::cli::{Shown, Terminal, machine_name, seconds};
use crate::error::Result;
use crate::ops::{self, Call};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm rollback web        the last generation before the current one that was not unhealthy
  nixvm rollback web 3

A running machine is restarted. Its data stays as it is.")]
pub struct Rollback {
    /// Name of the machine
    name: String,
    /// Number of the generation [default: the last one before the current one that was not unhealthy]
    #[arg(value_name = "GENERATION")]
    generation: Option<u32>,
    /// Wait at most SECONDS for the guest to shut down, and again for it to come up [default: 120, then 180 with KVM or 600 without]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

pub fn run(call: &Call, args: &Rollback, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let done = ops::rollback(&call.machine(&name)?, &name, args.generation, args.timeout, terminal)?;
    Ok(Shown::said(&done))
}
