use std::time::Duration;

use crate::cli::{Cost, Machines, Shown, Terminal, each, seconds};
use crate::error::Result;
use crate::ops::{self, Call, Needs, UpgradeRequest};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm upgrade web
  nixvm upgrade web db --timeout 300
  nixvm upgrade web --no-start           build now, run it from the next start

The image is built while the machine runs. A machine that comes up less healthy than it was before is
rolled back, and the exit code is 3; docs/upgrades.md says what is checked.")]
pub struct Upgrade {
    #[command(flatten)]
    machines: Machines,
    /// Do not restart a running machine: it gets the new system at its next start
    #[arg(long)]
    no_start: bool,
    /// Do not check the machine's health after the restart, and never roll back
    #[arg(long, conflicts_with = "no_start")]
    no_health: bool,
    /// Wait at most SECONDS for the guest to shut down, and again for it to come up [default: 120, then 180 with KVM or 600 without]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

pub fn run(call: &Call, args: &Upgrade, terminal: &Terminal) -> Result<Shown> {
    let selection = args.machines.select(call)?;
    let request = UpgradeRequest { start: !args.no_start, judge: !args.no_health, timeout: args.timeout };
    each(call, &selection, Needs::Domain, Cost::Building, terminal)?.shown(
        |setup, name, terminal| ops::upgrade(setup, name, request, terminal),
        |done| format!("generation {} -> {}", done.from, done.to),
    )
}
