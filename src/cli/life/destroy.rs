//! `destroy` and `purge`.

use crate::cli::{Shown, Terminal, Unprotect, Yes, machine_name};
use crate::error::Result;
use crate::ops::{self, Call};

#[derive(Debug, clap::Args)]
pub struct Destroy {
    /// Name of the machine
    name: String,
    #[command(flatten)]
    unprotect: Unprotect,
    #[command(flatten)]
    yes: Yes,
}

pub fn run(call: &Call, args: &Destroy, with_files: bool, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let setup = args.unprotect.setup(call, &name)?;
    ops::require_something(&setup, &name, with_files)?;
    let what = if with_files {
        "its domain, its disks with all data on them, and its files"
    } else {
        "its domain and disks, with all data on them"
    };
    args.yes.or_ask(terminal, &format!("Delete {name}: {what}?"), "delete")?;
    let delete = if with_files { ops::purge } else { ops::destroy };
    Ok(Shown::said(&delete(&setup, &name, terminal)?))
}
