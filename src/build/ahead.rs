//! Builds for several machines at once, before the first of them is touched.

use std::collections::BTreeMap;

use super::machine::build_machines;
use super::{BuiltMachine, Wanted};
use crate::error::Result;
use crate::host::{Setup, Watch};
use crate::model::record::Generations;
use crate::model::{Machine, MachineName};

/// A machine's next generation, built ahead of the work that puts it into the pool.
#[derive(Debug, Clone)]
pub struct BuiltAhead {
    machine: Machine,
    known: Option<Generations>,
    built: BuiltMachine,
}

impl BuiltAhead {
    /// Returns the build, unless the machine's files or generations have changed since.
    pub fn of(&self, machine: &Machine, known: Option<&Generations>) -> Option<BuiltMachine> {
        (self.machine == *machine && self.known.as_ref() == known).then(|| self.built.clone())
    }

    /// Returns the number of the generation that was built.
    pub fn number(&self) -> u32 {
        self.built.generation.number
    }
}

/// Builds the next generations of machines, with the builds that each has, from one copy of the flake. So all of them get the same
/// profiles, and machines that share an evaluation cost one. Returns a result for each.
///
/// # Errors
/// Something that all machines need is wrong, such as the flake, or the command was interrupted.
pub fn build_ahead(
    setup: &Setup,
    machines: Vec<(Machine, Option<Generations>)>,
    watch: &dyn Watch,
) -> Result<BTreeMap<MachineName, Result<BuiltAhead>>> {
    let wanted: Vec<Wanted> =
        machines.iter().map(|(machine, known)| Wanted::declared(setup, machine, known.as_ref())).collect();
    let results = build_machines(setup, &wanted, watch)?;
    let ahead = machines.into_iter().zip(results).map(|((machine, known), built)| {
        (machine.name.clone(), built.map(|built| BuiltAhead { machine, known, built }))
    });
    Ok(ahead.collect())
}
