//! `shell`: the development shell of the workspace's flake.

use crate::build::flake;
use crate::error::Result;
use crate::exec::Command;
use crate::host::{Setup, Watch};
use crate::nix;

/// Returns the command that enters the shell, with all inputs of the flake locked.
pub fn shell(setup: &Setup, watch: &dyn Watch) -> Result<Command> {
    let flake = flake::prepare(setup, |_, _| Ok(()), watch)?;
    Ok(nix::develop(&flake, setup.workspace.root()))
}
