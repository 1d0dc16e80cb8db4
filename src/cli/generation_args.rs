//! What the verbs on generations are told on the command line.

use clap::Args;

use super::args::Names;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm upgrade web
  nixvm upgrade web db --timeout 300
  nixvm upgrade web --no-start           build now, and run it at the next start

The image is built while the machine runs. A machine that does not come up as well as it was
gets its old system back, and the exit code is 3; docs/upgrades.md says what is looked at.")]
pub struct Upgrade {
    #[command(flatten)]
    pub machines: Names,
    /// Do not restart a machine that runs: it has the new system at its next start
    #[arg(long)]
    pub no_start: bool,
    /// Do not look at the machine after the restart, and never go back by itself
    #[arg(long, conflicts_with = "no_start")]
    pub no_health: bool,
    /// How long the guest may take to shut down, and then to come up, in seconds [default: 120, and 180 with KVM or 600 without]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm rollback web        the last one before the current one that was not unhealthy
  nixvm rollback web 3

A machine that runs is restarted. Its data stays as it is.")]
pub struct Rollback {
    /// Name of the machine
    pub name: String,
    /// Number of the generation [default: the last good one before the current one]
    #[arg(value_name = "GENERATION")]
    pub generation: Option<u32>,
    /// How long the guest may take to shut down, and then to come up, in seconds [default: 120, and 180 with KVM or 600 without]
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm generations web
  nixvm generations web --keep 3

The one that is current, the one that runs, the last healthy one and those that snapshots need always stay.")]
pub struct Generations {
    /// Name of the machine
    pub name: String,
    /// Remove all but the last N, and those that are needed
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm clean --dry-run
  nixvm clean --yes

It lists what it will free and asks. Data, backups and what any machine needs always stay; the last
two generations of each machine do too.")]
pub struct Clean {
    /// Only list what would be deleted
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}
