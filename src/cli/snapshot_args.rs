//! The command line of snapshots as clap sees it.

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm snapshot web                        named after the moment, in UTC
  nixvm snapshot web before-migration
  nixvm snapshot web --keep 7               and delete the oldest beyond seven

The data disk and the firmware's variables are kept. A machine that runs goes on; its guest agent, where it answers,
has everything written out before.")]
pub struct TakeSnapshot {
    /// Name of the machine
    pub name: String,
    /// Name of the snapshot [default: the moment, YYYYmmdd-HHMMSS in UTC]
    pub snapshot: Option<String>,
    /// Delete the oldest snapshots of the machine beyond N, named ones too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: Option<u32>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm restore-snapshot web before-migration
  nixvm restore-snapshot web 20260121-171147 --yes --discard

What the machine has now is kept as the snapshot `before-SNAP` unless `--discard` is given. A machine that runs is shut
down first and started again.")]
pub struct RestoreSnapshot {
    /// Name of the machine
    pub name: String,
    /// Name of the snapshot
    #[arg(value_name = "SNAP")]
    pub snapshot: String,
    /// How long to wait for a clean shutdown, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub timeout: u64,
    /// Pull the plug instead of shutting down
    #[arg(long)]
    pub force: bool,
    /// Delete what the machine has now
    #[arg(long)]
    pub discard: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm delete-snapshot web before-migration
  nixvm delete-snapshot web 20260121-171147 --yes

All other snapshots and what the machine has now stay as they are.")]
pub struct DeleteSnapshot {
    /// Name of the machine
    pub name: String,
    /// Name of the snapshot
    #[arg(value_name = "SNAP")]
    pub snapshot: String,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}
