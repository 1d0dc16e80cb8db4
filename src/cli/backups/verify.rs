//! `verify-backup`.

use std::path::PathBuf;

use indicatif::HumanBytes;

use crate::cli::{Shown, Terminal};
use crate::error::Result;
use crate::ops;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm verify-backup output/backups/web-20261125-161200.tar.zst

An incremental archive is verified together with all archives that it adds to. They have to be in the
same folder.")]
pub struct VerifyBackup {
    /// The archive
    file: PathBuf,
}

pub fn run(args: &VerifyBackup, terminal: &Terminal) -> Result<Shown> {
    let verified = ops::verify_backup(&args.file, terminal)?;
    let others = match verified.files.len() {
        1 => String::new(),
        2 => ", and so is the archive that it adds to".into(),
        count => format!(", and so are the {} archives that it adds to", count - 1),
    };
    let text = format!("{} is whole{others}: {}", args.file.display(), HumanBytes(verified.bytes));
    Ok(Shown::new(&verified, text))
}
