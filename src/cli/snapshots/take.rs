//! `snapshot`.

use crate::cli::{Cost, Several, Shown, Terminal, each, optional};
use crate::error::Result;
use crate::model::MachineName;
use crate::ops::{self, Call, Needs, Setup};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm snapshot web                        named after the time, in UTC
  nixvm snapshot web before-migration
  nixvm snapshot web --keep 7               and delete the oldest ones beyond seven
  nixvm snapshot 'web-*' before-migration   of each of them
  nixvm snapshot --all before-migration

A snapshot holds the data disk and the firmware's variables. A running machine keeps running; its guest
agent, if it answers, first writes everything to disk.")]
pub struct Snapshot {
    /// Machine: a name, a glob ('web-*'), or @PROFILE for those of a profile
    #[arg(required_unless_present = "all")]
    name: Option<String>,
    /// Name of the snapshot [default: the time, YYYYmmdd-HHMMSS in UTC]
    snapshot: Option<String>,
    /// Delete the machine's oldest snapshots beyond N, named ones too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    #[command(flatten)]
    several: Several,
}

pub fn run(call: &Call, args: &Snapshot, terminal: &Terminal) -> Result<Shown> {
    let (selection, snapshot) = args.several.before(call, args.name.as_deref(), args.snapshot.as_deref())?;
    let snapshot = optional(snapshot, str::parse)?;
    let keep = args.keep.map(|keep| keep as usize);
    let take = |setup: &Setup, name: &MachineName, terminal: &Terminal| {
        ops::snapshot(setup, name, snapshot.as_ref(), keep, terminal)
    };
    if let Some(name) = selection.only() {
        let taken = take(&call.machine(name)?, name, terminal)?;
        return Ok(Shown::new(&taken, taken.snapshot.name.as_str()));
    }
    each(call, &selection, Needs::Domain, Cost::Waiting, terminal)?
        .shown(take, |taken| taken.snapshot.name.to_string())
}
