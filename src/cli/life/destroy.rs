//! `destroy` and `purge`.

use std::collections::BTreeSet;

use crate::cli::{Cost, Machines, Shown, Terminal, Unprotect, Yes, each};
use crate::error::{Failure, Result};
use crate::model::MachineName;
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
    args.yes.or_ask(terminal, &question(&names, with_files)?, "delete")?;
    let delete = if with_files { ops::purge } else { ops::destroy };
    if let Some(name) = selection.only() {
        return Ok(Shown::said(&delete(&args.unprotect.setup(call, name)?, name, terminal)?));
    }
    let needs = if with_files { Needs::Files } else { Needs::Domain };
    each(call, &selection, needs, Cost::Waiting, terminal)?
        .shown(|setup, name, terminal| delete(&args.unprotect.of(setup), name, terminal), word)
}

/// Returns the question before a deletion, which names every machine.
fn question(names: &BTreeSet<MachineName>, with_files: bool) -> Result<String> {
    let what = |whose: &str, domain: &str| {
        if with_files {
            format!("{whose} {domain}, {whose} disks with all data on them, and {whose} files")
        } else {
            format!("{whose} {domain} and disks, with all data on them")
        }
    };
    let all: Vec<&str> = names.iter().map(MachineName::as_str).collect();
    match all.as_slice() {
        [] => Err(Failure::user("none of these machines has a domain; nothing was deleted")
            .hint("`nixvm purge` deletes their files")
            .into()),
        [name] => Ok(format!("Delete {name}: {}?", what("its", "domain"))),
        all => {
            Ok(format!("Delete {} machines ({}): {}?", all.len(), all.join(", "), what("their", "domains")))
        }
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
    fn the_question_names_every_machine() {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let asked = |some: &[&str], with_files| question(&names(some), with_files).unwrap();
        assert_eq!(asked(&["web"], false), "Delete web: its domain and disks, with all data on them?");
        assert_eq!(
            asked(&["web", "db"], true),
            "Delete 2 machines (db, web): their domains, their disks with all data on them, and their files?"
        );
        assert!(question(&names(&[]), false).is_err());
    }
}
