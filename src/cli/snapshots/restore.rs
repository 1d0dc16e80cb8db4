//! `restore-snapshot`.

use crate::cli::{Shown, Shutdown, Terminal, Unprotect, Yes, machine_name, typed};
use crate::error::Result;
use crate::ops::{self, Call, RestoreOptions};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm restore-snapshot web before-migration
  nixvm restore-snapshot web 20260121-171147 --yes --discard

The machine's present data is kept as the snapshot `before-SNAP` unless `--discard` is given. A running
machine is shut down first and started again.")]
pub struct RestoreSnapshot {
    /// Name of the machine
    name: String,
    /// Name of the snapshot
    #[arg(value_name = "SNAP")]
    snapshot: String,
    #[command(flatten)]
    shutdown: Shutdown,
    /// Switch the machine off at once instead of shutting it down
    #[arg(long)]
    force: bool,
    /// Delete the machine's present data
    #[arg(long)]
    discard: bool,
    #[command(flatten)]
    unprotect: Unprotect,
    #[command(flatten)]
    yes: Yes,
}

pub fn run(call: &Call, args: &RestoreSnapshot, terminal: &Terminal) -> Result<Shown> {
    let (name, snapshot) = (machine_name(&args.name)?, typed(args.snapshot.parse())?);
    let setup = args.unprotect.setup(call, &name)?;
    ops::require_snapshot(&setup, &name, &snapshot)?;
    let fate = if args.discard { "deleted" } else { "kept as a snapshot" };
    let question = format!(
        "Bring {name} back to the snapshot {snapshot}? The machine is stopped for this; its present data is {fate}."
    );
    args.yes.or_ask(terminal, &question, "restore")?;
    let options = RestoreOptions { timeout: args.shutdown.timeout, force: args.force, discard: args.discard };
    Ok(Shown::said(&ops::restore_snapshot(&setup, &name, &snapshot, options, terminal)?))
}
