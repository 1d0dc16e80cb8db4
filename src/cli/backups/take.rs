//! `backup`.

use std::path::PathBuf;

use indicatif::HumanBytes;

use crate::cli::{Cost, Machines, Shown, Terminal, each};
use crate::error::Result;
use crate::model::MachineName;
use crate::ops::{self, BackedUp, Call, Needs, Setup};

use crate::cli::archives::{folder, state};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm backup web
  nixvm backup web db --to /mnt/backups
  nixvm backup web --incremental

A running machine keeps running. Its files and its data are written to
DIR/NAME-YYYYmmdd-HHMMSS.tar.zst, which only you can read; a restore builds the system again from the
files. docs/backups.md has more.")]
pub struct Backup {
    #[command(flatten)]
    machines: Machines,
    /// Write the archives to this folder [default: output/backups]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Back up only what changed since the last backup in DIR; everything if that is not known
    #[arg(long)]
    incremental: bool,
}

pub fn run(call: &Call, args: &Backup, terminal: &Terminal) -> Result<Shown> {
    let folder = folder(call.host(), args.to.as_deref())?;
    let selection = args.machines.select(call)?;
    let backup = |setup: &Setup, name: &MachineName, terminal: &Terminal| {
        ops::backup(setup, name, &folder, args.incremental, terminal)
    };
    each(call, &selection, Needs::Domain, Cost::Packing, terminal)?.shown_with(backup, line, line)
}

fn line(made: &BackedUp) -> String {
    let kind = made.parent.as_ref().map_or_else(|| "full".to_owned(), |parent| format!("adds to {parent}"));
    format!("{}  {}, {kind}, {}", made.file.display(), state(made.state), HumanBytes(made.bytes))
}
