//! `delete-snapshot`.

use crate::cli::{Shown, Terminal, Unprotect, Yes, machine_name, typed};
use crate::error::Result;
use crate::ops::{self, Call};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm delete-snapshot web before-migration
  nixvm delete-snapshot web 20260121-171147 --yes

All other snapshots and the machine's present data stay as they are.")]
pub struct DeleteSnapshot {
    /// Name of the machine
    name: String,
    /// Name of the snapshot
    #[arg(value_name = "SNAP")]
    snapshot: String,
    #[command(flatten)]
    unprotect: Unprotect,
    #[command(flatten)]
    yes: Yes,
}

pub fn run(call: &Call, args: &DeleteSnapshot, terminal: &Terminal) -> Result<Shown> {
    let (name, snapshot) = (machine_name(&args.name)?, typed(args.snapshot.parse())?);
    let setup = args.unprotect.setup(call, &name)?;
    ops::require_snapshot(&setup, &name, &snapshot)?;
    args.yes.or_ask(terminal, &format!("Delete the snapshot {snapshot} of {name}?"), "delete")?;
    Ok(Shown::said(&ops::delete_snapshot(&setup, &name, &snapshot, terminal)?))
}
