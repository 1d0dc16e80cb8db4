use crate::cli::{Shown, Terminal, two_names};
use crate::error::Result;
use crate::ops::{self, Call};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm clone web web2
  nixvm clone web web2 --without-data

NEW gets the profile, size, ports, keys, password and modules of NAME. It gets a machine-id, UUID,
hardware address, ssh host key and hostname of its own. It starts with its host if NAME does, and is not
protected.")]
pub struct Clone {
    /// Name of the machine to copy
    name: String,
    /// Name of the copy
    new: String,
    /// Give the copy an empty data disk
    #[arg(long)]
    without_data: bool,
}

pub fn run(call: &Call, args: &Clone, terminal: &Terminal) -> Result<Shown> {
    let (name, new) = two_names(&args.name, &args.new)?;
    let (from, to) = call.copied(&name, &new)?;
    let cloned = ops::clone((&from, &name), (&to, &new), !args.without_data, terminal)?;
    Ok(Shown::new(&cloned, format!("next: nixvm start {new} --wait, then nixvm ssh {new}")))
}
