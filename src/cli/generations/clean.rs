use indicatif::HumanBytes;

use crate::cli::{Shown, Terminal, Yes, dash, table};
use crate::error::Result;
use crate::ops::{self, Call, Garbage};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm clean --dry-run
  nixvm clean --yes

It lists what it can delete and asks. It never deletes data, backups or what a machine needs, and it
keeps the last two generations of each machine.")]
pub struct Clean {
    /// Only list what would be deleted
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    yes: Yes,
}

pub fn run(call: &Call, args: &Clean, terminal: &Terminal) -> Result<Shown> {
    let (mut found, mut pools) = (Vec::new(), Vec::new());
    for setup in call.pools()? {
        // What lies in the workspace itself is found again for every pool.
        let mut here = ops::garbage(&setup)?;
        here.retain(|item| !found.contains(item));
        found.extend(here.iter().cloned());
        pools.push((setup, here));
    }
    if found.is_empty() {
        return Ok(Shown::new(&found, "nothing to delete: everything is needed"));
    }
    let listed = garbage(&found);
    if args.dry_run {
        return Ok(Shown::new(&found, listed));
    }
    if !args.yes.yes {
        terminal.rest();
        terminal.line(&listed);
    }
    args.yes.or_ask(terminal, "Delete all this?", "delete")?;
    let mut deleted = Vec::new();
    for (setup, here) in pools.iter().filter(|(_, here)| !here.is_empty()) {
        deleted.extend(ops::clean(setup, here, terminal)?);
    }
    Ok(Shown::new(&deleted, garbage(&deleted)))
}

fn garbage(found: &[Garbage]) -> String {
    let row = |item: &Garbage| {
        let (kind, what) = match item {
            Garbage::Generation { machine, number, .. } => ("generation", format!("{number} of {machine}")),
            Garbage::Base { volume, .. } => ("base image", volume.clone()),
            Garbage::OutLink { path } => ("build link", path.display().to_string()),
            Garbage::Files { path, .. } => ("files", path.display().to_string()),
        };
        vec![dash(item.bytes().map(HumanBytes)), kind.to_owned(), what]
    };
    let all = HumanBytes(found.iter().filter_map(Garbage::bytes).sum());
    format!("{}{all} in all", table(&["FREES", "", "WHAT"], found.iter().map(row)))
}
