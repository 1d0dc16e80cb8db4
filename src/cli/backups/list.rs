//! `backups`.

use std::path::PathBuf;

use crate::cli::{Shown, machine_name};
use crate::error::Result;
use crate::ops::{self, Call};

use crate::cli::archives::{folder, listing};

#[derive(Debug, clap::Args)]
pub struct Backups {
    /// List only this machine's backups
    name: Option<String>,
    /// Look for archives in this folder [default: output/backups]
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
}

pub fn run(call: &Call, args: &Backups) -> Result<Shown> {
    let name = args.name.as_deref().map(machine_name).transpose()?;
    let folder = folder(call.host(), args.from.as_deref())?;
    let found = ops::backups(&folder, name.as_ref())?;
    let text = if found.is_empty() {
        format!("no backups in {}; `nixvm backup NAME` makes one", folder.display())
    } else {
        listing(&found)
    };
    Ok(Shown::new(&found, text))
}
