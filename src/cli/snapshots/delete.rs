//! `delete-snapshot`.

use crate::cli::{Cost, Several, Shown, Terminal, Unprotect, Yes, each, typed};
use crate::error::Result;
use crate::model::{MachineName, SnapshotName};
use crate::ops::{self, Call, Needs, Setup};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm delete-snapshot web before-migration
  nixvm delete-snapshot web 20260121-171147 --yes
  nixvm delete-snapshot 'web-*' before-migration
  nixvm delete-snapshot --all before-migration

All other snapshots and the machine's present data stay as they are.")]
pub struct DeleteSnapshot {
    /// Machine: a name, a glob ('web-*'), or @PROFILE for those of a profile
    #[arg(required = true)]
    name: Option<String>,
    /// Name of the snapshot
    #[arg(value_name = "SNAP", required_unless_present = "all")]
    snapshot: Option<String>,
    #[command(flatten)]
    several: Several,
    #[command(flatten)]
    unprotect: Unprotect,
    #[command(flatten)]
    yes: Yes,
}

pub fn run(call: &Call, args: &DeleteSnapshot, terminal: &Terminal) -> Result<Shown> {
    let (selection, snapshot) = args.several.before(call, args.name.as_deref(), args.snapshot.as_deref())?;
    let snapshot: SnapshotName = typed(snapshot.unwrap_or_default().parse())?;
    let names = selection.names();
    for name in &names {
        ops::require_snapshot(&args.unprotect.setup(call, name)?, name, &snapshot)?;
    }
    let question = |whom: &str| format!("Delete the snapshot {snapshot} of {whom}?");
    args.yes.or_ask_about(terminal, &names, question, "delete")?;
    let delete = |setup: &Setup, name: &MachineName, terminal: &Terminal| {
        ops::delete_snapshot(&args.unprotect.of(setup), name, &snapshot, terminal)
    };
    if let Some(name) = selection.only() {
        return Ok(Shown::said(&delete(&call.machine(name)?, name, terminal)?));
    }
    each(call, &selection, Needs::Domain, Cost::Waiting, terminal)?.shown(delete, |_| "deleted".into())
}
