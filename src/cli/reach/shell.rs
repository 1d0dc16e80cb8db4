use crate::cli::{Shown, Terminal};
use crate::error::Result;
use crate::nix;
use crate::ops::Call;

pub fn run(call: &Call, terminal: &Terminal) -> Result<Shown> {
    let setup = call.host();
    let flake = setup.flake(|_, _| Ok(()), terminal)?;
    terminal.rest();
    Err(nix::develop(&flake, setup.workspace.root()).replace())
}
