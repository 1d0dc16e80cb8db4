//! `update`: the workspace's inputs, nixpkgs above all, at their newest revisions.
//!
//! It changes only flake.lock. A machine gets the new revisions with its next upgrade.

use serde::Serialize;

use crate::build::flake;
use crate::build::inputs::{self, NIXPKGS};
use crate::error::{Explain, Failure, Result};
use crate::host::{Setup, Watch};
use crate::model::suggest::did_you_mean;
use crate::nix::{self, Moved};

#[derive(Debug, Clone, Serialize)]
pub struct Updated {
    pub moved: Vec<Moved>,
    pub unchanged: Vec<String>,
    /// The flake reference that machines are built from; the locked nixpkgs was left alone because of it.
    pub nixpkgs_replaced_by: Option<String>,
}

/// Moves inputs of the workspace's flake to their newest revisions; all of them, if `inputs` is empty. If this fails, the
/// lock file is unchanged.
pub fn update(setup: &Setup, inputs: &[String], watch: &dyn Watch) -> Result<Updated> {
    nix::require()?;
    let replaced = flake::nixpkgs(setup)?;
    let nixpkgs = replaced.as_deref();
    if let Some(reference) = nixpkgs.filter(|_| inputs.iter().any(|input| input == NIXPKGS)) {
        return Err(Failure::user(format!("machines are built from `{reference}`, not from the locked nixpkgs"))
            .hint("leave out `--nixpkgs` and NIXVM_NIXPKGS, or run `./quickstart --online`, which removes output/base")
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
        .explain(|| Failure::user("cannot update the inputs of flake.nix; flake.lock is unchanged"))?;
    if let Some(unknown) = inputs.iter().find(|input| !after.inputs().contains(&input.as_str())) {
        let hint = match did_you_mean(unknown, after.inputs()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("its inputs are {}", after.inputs().join(", ")),
        };
        return Err(Failure::user(format!("flake.nix has no input `{unknown}`")).hint(hint).into());
    }
    let moved = after.moved_since(&before);
    if after != before {
        inputs::write(setup, &staged, &after)?;
    }
    let left_alone =
        |name: &str| moved.iter().all(|moved| moved.input != name) && (nixpkgs.is_none() || name != NIXPKGS);
    let unchanged = after.inputs().into_iter().filter(|name| left_alone(name)).map(str::to_owned).collect();
    watch.done(&match moved.len() {
        0 => "Every input is at its newest revision".to_owned(),
        1 => "Updated 1 input in flake.lock".to_owned(),
        count => format!("Updated {count} inputs in flake.lock"),
    });
    if let Some(reference) = nixpkgs {
        watch.note(&format!("nixpkgs was left alone: machines are built from `{reference}`"));
    }
    Ok(Updated { moved, unchanged, nixpkgs_replaced_by: replaced })
}
