//! `snapshot`.

use crate::cli::{Shown, Terminal, machine_name, optional};
use crate::error::Result;
use crate::ops::{self, Call};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm snapshot web                        named after the time, in UTC
  nixvm snapshot web before-migration
  nixvm snapshot web --keep 7               and delete the oldest ones beyond seven

A snapshot holds the data disk and the firmware's variables. A running machine keeps running; its guest
agent, if it answers, first writes everything to disk.")]
pub struct Snapshot {
    /// Name of the machine
    name: String,
    /// Name of the snapshot [default: the time, YYYYmmdd-HHMMSS in UTC]
    snapshot: Option<String>,
    /// Delete the machine's oldest snapshots beyond N, named ones too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
}

pub fn run(call: &Call, args: &Snapshot, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let snapshot = optional(args.snapshot.as_deref(), str::parse)?;
    let keep = args.keep.map(|keep| keep as usize);
    let taken = ops::snapshot(&call.machine(&name)?, &name, snapshot.as_ref(), keep, terminal)?;
    Ok(Shown::new(&taken, taken.snapshot.name.as_str()))
}
