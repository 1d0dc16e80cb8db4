use crate::cli::{Shown, Terminal, two_names};
use crate::error::Result;
use crate::ops::{self, Call};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  nixvm rename web www

The machine has to be off. It keeps its identity, disks and data.")]
pub struct Rename {
    /// Name of the machine
    name: String,
    /// Its new name
    new: String,
}

pub fn run(call: &Call, args: &Rename, terminal: &Terminal) -> Result<Shown> {
    let (name, new) = two_names(&args.name, &args.new)?;
    Ok(Shown::said(&ops::rename(&call.renamed(&name, &new)?, &name, &new, terminal)?))
}
