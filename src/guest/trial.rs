//! An upgrade under way: how the machine was before, kept until the new generation is judged.
//!
//! Once the guest is down, nothing but this file knows that it was up, what answered then and which units had failed already.
//! Without it, an interrupted upgrade is not judged.

use serde::{Deserialize, Serialize};

use crate::build::kept;
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::host::Setup;
use crate::model::{MachineName, Observation};

const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    format: u32,
    /// The generation that is tried.
    pub to: u32,
    /// The generation that ran before.
    pub from: u32,
    /// The length of the serial log before, in bytes.
    pub log: u64,
    /// How the machine was; `None` where it was not observed.
    pub before: Option<Observation>,
}

impl Trial {
    pub fn new(from: u32, to: u32, log: u64, before: Option<Observation>) -> Self {
        Trial { format: FORMAT, to, from, log, before }
    }

    pub fn read(setup: &Setup, name: &MachineName) -> Result<Option<Self>> {
        let text = file::read(&path(setup, name))?;
        // A file of another nixvm is ignored: only a judgement is lost.
        let trial: Option<Trial> = text.and_then(|text| serde_json::from_str(&text).ok());
        Ok(trial.filter(|trial| trial.format == FORMAT))
    }

    pub fn write(&self, setup: &Setup, name: &MachineName) -> Result<()> {
        file::create_private_folder(&kept::of_machine(setup, name))?;
        let text = serde_json::to_string(self).explain(|| Failure::bug("cannot write down a trial"))?;
        file::replace(&path(setup, name), &text)
    }
}

pub fn forget(setup: &Setup, name: &MachineName) -> Result<()> {
    file::remove(&path(setup, name)).map(drop)
}

fn path(setup: &Setup, name: &MachineName) -> std::path::PathBuf {
    kept::of_machine(setup, name).join("trial.json")
}
