//! `update`: the workspace's inputs, nixpkgs above all, at their newest revisions.
//!
//! It changes flake.lock and nothing else. Machines have the new revisions from their next upgrade on.

use serde::Serialize;

use crate::build::flake;
use crate::build::inputs::{self, NIXPKGS};
use crate::error::{Explain, Failure, Result};
use crate::host::{Setup, Watch};
use crate::model::suggest::did_you_mean;
use crate::nix::{self, Moved};

/// What an update came to.
#[derive(Debug, Clone, Serialize)]
pub struct Updated {
    /// The inputs that moved, by name.
    pub moved: Vec<Moved>,
    /// The inputs that are where they were.
    pub unchanged: Vec<String>,
    /// The flake reference that machines are built from in place of the locked nixpkgs, which was left alone therefore.
    pub nixpkgs_replaced_by: Option<String>,
}

/// Moves inputs of the workspace's flake to their newest revisions; all of them, if `inputs` is empty.
///
/// # Errors
/// There is no such input, or it cannot be fetched: the lock file is as it was then. The lock file cannot be written.
pub fn update(setup: &Setup, inputs: &[String], watch: &dyn Watch) -> Result<Updated> {
    nix::require()?;
    let replaced = flake::nixpkgs(setup)?;
    let nixpkgs = replaced.as_deref();
    if let Some(reference) = nixpkgs.filter(|_| inputs.iter().any(|input| input == NIXPKGS)) {
        return Err(Failure::user(format!("machines are built from `{reference}`, not from the locked nixpkgs"))
            .hint("take away `--nixpkgs` or NIXVM_NIXPKGS; or run `./quickstart --online`, which removes output/base")
            .into());
    }
    watch.step("Looking for newer revisions");
    let mut staged = flake::stage(setup)?;
    let before = inputs::read(&staged)?;
    let mut dropped = before.without(inputs);
    if nixpkgs.is_some() {
        dropped = dropped.with_input_of(&before, NIXPKGS);
    }
    let after = inputs::relock(&mut staged, &dropped, nixpkgs)
        .explain(|| Failure::user("cannot move the inputs of flake.nix; flake.lock is as it was"))?;
    if let Some(unknown) = inputs.iter().find(|input| !after.inputs().contains(&input.as_str())) {
        let failure = Failure::user(format!("flake.nix has no input `{unknown}`"));
        let meant = did_you_mean(unknown, after.inputs());
        return Err(failure
            .hint(match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("its inputs are {}", after.inputs().join(", ")),
            })
            .into());
    }
    let moved = after.moved_since(&before);
    if after != before {
        inputs::write(setup, &staged, &after)?;
    }
    let has_moved = |name: &&str| moved.iter().any(|moved| moved.input == **name);
    let unchanged = after.inputs().into_iter().filter(|name| !has_moved(name));
    let unchanged =
        unchanged.filter(|name| nixpkgs.is_none() || *name != NIXPKGS).map(str::to_owned).collect();
    watch.done(&match moved.len() {
        0 => "Every input is at its newest revision".to_owned(),
        some => format!("Moved {some} input(s) in flake.lock"),
    });
    if let Some(reference) = nixpkgs {
        watch.note(&format!("nixpkgs was left alone: machines are built from `{reference}`"));
    }
    Ok(Updated { moved, unchanged, nixpkgs_replaced_by: replaced })
}
