//! `--unprotect`, of the verbs that delete or replace a machine's data.

use crate::error::Result;
use crate::model::MachineName;
use crate::ops::{self, Call, Setup};

#[derive(Debug, clap::Args)]
pub struct Unprotect {
    /// Do it even if the machine is protected (`nixvm set NAME protect=yes`)
    #[arg(long)]
    pub unprotect: bool,
}

impl Unprotect {
    /// Returns the setup for deleting the machine's data.
    ///
    /// # Errors
    /// The machine is protected: nobody is to be asked about what is refused anyway.
    pub fn setup(&self, call: &Call, name: &MachineName) -> Result<Setup> {
        let setup = self.of(&call.machine(name)?);
        ops::require_unprotected(&setup, name)?;
        Ok(setup)
    }

    pub fn of(&self, setup: &Setup) -> Setup {
        Setup { unprotect: self.unprotect, ..setup.clone() }
    }
}
