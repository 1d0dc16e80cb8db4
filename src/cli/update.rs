//! `update`.

use clap::Args;

use crate::error::Result;
use crate::model::Timestamp;
use crate::nix::Locked;
use crate::ops::{self, Setup, Updated};

use super::show::{self, Shown};
use super::terminal::Terminal;

/// Letters of a revision that are shown; `--json` has all.
const REVISION: usize = 18;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm update                 move every input of flake.nix to its newest revision
  nixvm update nixpkgs

Only flake.lock changes. `nixvm diff NAME` then shows what an upgrade would change, and
`nixvm upgrade NAME` brings it. `git checkout flake.lock` takes an update back.")]
pub struct Update {
    /// Inputs of flake.nix [default: all]
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<String>,
}

/// Carries out `update`.
///
/// # Errors
/// Those of the operation.
pub fn update(setup: &Setup, args: &Update, terminal: &Terminal) -> Result<Shown> {
    let updated = ops::update(setup, &args.inputs, terminal)?;
    Ok(Shown::new(&updated, text(&updated)))
}

fn text(updated: &Updated) -> String {
    let shown = |locked: Option<&Locked>| {
        locked.map_or_else(
            || vec!["-".to_owned(), "-".to_owned()],
            |locked| {
                let modified = locked.modified.and_then(Timestamp::from_unix);
                let day =
                    modified.map_or_else(|| "-".to_owned(), |it| it.in_words().chars().take(10).collect());
                vec![locked.revision.chars().take(REVISION).collect(), day]
            },
        )
    };
    let row = |moved: &crate::nix::Moved| {
        [vec![moved.input.clone()], shown(moved.from.as_ref()), shown(moved.to.as_ref())].concat()
    };
    if updated.moved.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = updated.moved.iter().map(row).collect();
    let table = show::table(&["INPUT", "FROM", "OF", "TO", "OF"], &rows);
    format!(
        "{}\nnext: `nixvm diff NAME` shows what changes, `nixvm upgrade NAME` brings it",
        table.trim_end()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::Moved;

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
             next: `nixvm diff NAME` shows what changes, `nixvm upgrade NAME` brings it"
        );
        assert_eq!(text(&Updated { moved: Vec::new(), ..updated }), "");
    }
}
