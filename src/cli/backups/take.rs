//! `backup`.

use std::path::PathBuf;

use indicatif::HumanBytes;

use crate::cli::{Machines, Shown, Terminal, each};
use crate::error::Result;
use crate::ops::{self, Call};

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
    let mut lines = Vec::new();
    let shown = each(call, &args.machines, |setup, name| {
        let made = ops::backup(setup, name, &folder, args.incremental, terminal)?;
        let kind =
            made.parent.as_ref().map_or_else(|| "full".to_owned(), |parent| format!("adds to {parent}"));
        let (size, state) = (HumanBytes(made.bytes), state(made.state));
        lines.push(format!("{}  {state}, {kind}, {size}", made.file.display()));
        Ok(made)
    })?;
    Ok(Shown { text: lines.join("\n"), ..shown })
}
