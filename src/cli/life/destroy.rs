//! `destroy` and `purge`.

use crate::cli::{Cost, Machines, Shown, Terminal, Unprotect, Yes, each};
use crate::error::{Failure, Result};
use crate::ops::{self, Call, Destroyed, Needs};

#[derive(Debug, clap::Args)]
pub struct Destroy {
    #[command(flatten)]
    machines: Machines,
    #[command(flatten)]
    unprotect: Unprotect,
    #[command(flatten)]
    yes: Yes,
}

pub fn run(call: &Call, args: &Destroy, with_files: bool, terminal: &Terminal) -> Result<Shown> {
    let mut selection = args.machines.select(call)?;
    if !with_files {
        // Nobody should confirm a list of machines most of which are not there.
        selection.retain_found(|name| ops::is_made(&call.machine(name)?, name))?;
    }
    let names = selection.names();
    for name in &names {
        ops::require_something(&args.unprotect.setup(call, name)?, name, with_files)?;
    }
    if names.is_empty() {
        return Err(Failure::user("none of these machines has a domain; nothing was deleted")
            .hint("`nixvm purge` deletes their files")
            .into());
    }
    args.yes.or_ask_about(terminal, &names, |whom| question(whom, names.len(), with_files), "delete")?;
    let delete = if with_files { ops::purge } else { ops::destroy };
    if let Some(name) = selection.only() {
        return Ok(Shown::said(&delete(&args.unprotect.setup(call, name)?, name, terminal)?));
    }
    let needs = if with_files { Needs::Files } else { Needs::Domain };
    each(call, &selection, needs, Cost::Waiting, terminal)?
        .shown(|setup, name, terminal| delete(&args.unprotect.of(setup), name, terminal), word)
}

fn question(whom: &str, count: usize, with_files: bool) -> String {
    let (its, domain) = if count == 1 { ("its", "domain") } else { ("their", "domains") };
    if with_files {
        format!("Delete {whom}: {its} {domain}, {its} disks with all data on them, and {its} files?")
    } else {
        format!("Delete {whom}: {its} {domain} and disks, with all data on them?")
    }
}

fn word(destroyed: &Destroyed) -> String {
    let volumes = format!("{} volumes deleted", destroyed.volumes.len());
    if destroyed.files { format!("{volumes}, and its files") } else { volumes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_says_what_is_deleted() {
        assert_eq!(question("web", 1, false), "Delete web: its domain and disks, with all data on them?");
        assert_eq!(
            question("these 2 machines", 2, true),
            "Delete these 2 machines: their domains, their disks with all data on them, and their files?"
        );
    }
}
