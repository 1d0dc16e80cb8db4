use crate::cli::{Shown, Terminal, table};
use crate::error::Result;
use crate::model::Timestamp;
use crate::nix::{Locked, Moved};
use crate::ops::{self, Call, Updated};

/// Letters of a revision that are shown; `--json` has all.
const REVISION: usize = 18;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm update                 update every input of flake.nix
  nixvm update nixpkgs

Only flake.lock changes. Then `nixvm diff NAME` shows what an upgrade would change, and
`nixvm upgrade NAME` applies it. `git checkout flake.lock` undoes an update.")]
pub struct Update {
    /// Inputs of flake.nix [default: all]
    #[arg(value_name = "INPUT")]
    inputs: Vec<String>,
}

pub fn run(call: &Call, args: &Update, terminal: &Terminal) -> Result<Shown> {
    let updated = ops::update(call.host(), &args.inputs, terminal)?;
    Ok(Shown::new(&updated, text(&updated)))
}

fn text(updated: &Updated) -> String {
    if updated.moved.is_empty() {
        return String::new();
    }
    let row = |moved: &Moved| {
        [vec![moved.input.clone()], cells(moved.from.as_ref()), cells(moved.to.as_ref())].concat()
    };
    let table = table(&["INPUT", "FROM", "OF", "TO", "OF"], updated.moved.iter().map(row));
    format!("{table}next: `nixvm diff NAME` shows what changes, `nixvm upgrade NAME` applies it")
}

/// Returns the revision and its day.
fn cells(locked: Option<&Locked>) -> Vec<String> {
    let Some(locked) = locked else { return vec!["-".to_owned(); 2] };
    let day = locked.modified.and_then(Timestamp::from_unix);
    let day = day.map_or_else(|| "-".to_owned(), |day| day.in_words().chars().take(10).collect());
    vec![locked.revision.chars().take(REVISION).collect(), day]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_input_is_shown_with_its_revisions_and_their_days() {
        let locked = |revision: &str, modified| Some(Locked { revision: revision.repeat(40), modified });
        let moved = |input: &str, from, to| Moved { input: input.into(), from, to };
        let updated = Updated {
            moved: vec![
                moved("nixpkgs", locked("a", Some(1_795_392_576)), locked("b", Some(1_795_478_976))),
                moved("nixvm", None, locked("c", None)),
            ],
            unchanged: Vec::new(),
            nixpkgs_replaced_by: None,
        };
        assert_eq!(
            text(&updated),
            "INPUT    FROM                OF          TO                  OF\n\
             nixpkgs  aaaaaaaaaaaaaaaaaa  2026-11-23  bbbbbbbbbbbbbbbbbb  2026-11-24\n\
             nixvm    -                   -           cccccccccccccccccc  -\n\
             next: `nixvm diff NAME` shows what changes, `nixvm upgrade NAME` applies it"
        );
        assert_eq!(text(&Updated { moved: Vec::new(), ..updated }), "");
    }
}
