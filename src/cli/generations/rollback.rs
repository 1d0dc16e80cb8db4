use std::time::Duration;

use crate::cli::{Cost, Several, Shown, Terminal, each, seconds};
use crate::error::Result;
use crate::model::MachineName;
use crate::ops::{self, Call, Needs, Setup};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm rollback web        the last generation before the current one that was not unhealthy
  nixvm rollback web 3
  nixvm rollback 'web-*'    each of them to its own

A running machine is restarted. Its data stays as it is.")]
pub struct Rollback {
    /// Machine: a name, a glob ('web-*'), or @PROFILE for those of a profile
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    name: Option<String>,
    /// Number of the generation [default: the last one before the current one that was not unhealthy]
    #[arg(value_name = "GENERATION")]
    generation: Option<u32>,
    /// Wait at most SECONDS for the guest to shut down, and again for it to come up [default: 120, then 180 with KVM or 600 without]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    several: Several,
}

pub fn run(call: &Call, args: &Rollback, terminal: &Terminal) -> Result<Shown> {
    let selection = args.several.or_named(call, args.name.as_deref().as_slice())?;
    let rollback = |setup: &Setup, name: &MachineName, terminal: &Terminal| {
        ops::rollback(setup, name, args.generation, args.timeout, terminal)
    };
    if let Some(name) = selection.only() {
        return Ok(Shown::said(&rollback(&call.machine(name)?, name, terminal)?));
    }
    each(call, &selection, Needs::Domain, Cost::Waiting, terminal)?
        .shown(rollback, |done| format!("generation {} -> {}", done.from, done.to))
}
