//! Builds for several upgrades at once, before the first machine is touched.

use std::collections::BTreeMap;

use crate::build::{BuiltMachine, Wanted, build_machines};
use crate::config;
use crate::error::Result;
use crate::host::{Call, Watch};
use crate::model::record::Generations;
use crate::model::{Machine, MachineName};

/// A machine's next generation, built ahead of its upgrade.
#[derive(Debug, Clone)]
pub struct BuiltAhead {
    machine: Machine,
    known: Generations,
    built: BuiltMachine,
}

impl BuiltAhead {
    /// Returns the build, unless the machine's files or generations have changed since.
    pub(super) fn of(&self, machine: &Machine, known: &Generations) -> Option<BuiltMachine> {
        (self.machine == *machine && self.known == *known).then(|| self.built.clone())
    }
}

/// Builds the next generations of machines from one copy of the flake, so that all of them get the same profiles, and machines
/// that share an evaluation cost one. It leaves out a machine that cannot be built or has no domain: its upgrade says why.
///
/// # Errors
/// Something that all machines need is wrong, such as the flake, or the command was interrupted.
pub fn build_ahead(
    call: &Call,
    names: &[MachineName],
    watch: &dyn Watch,
) -> Result<BTreeMap<MachineName, BuiltAhead>> {
    let found = names.iter().filter_map(|name| {
        let setup = call.machine(name).ok()?;
        let domain = setup.hypervisor().and_then(|host| host.own(name)).ok()?;
        let machine = config::load(&setup.workspace, name).ok()?;
        Some((machine, domain.metadata().generations.clone()))
    });
    let found: Vec<(Machine, Generations)> = found.collect();
    let wanted: Vec<Wanted> =
        found.iter().map(|(machine, known)| Wanted::declared(call.host(), machine, Some(known))).collect();
    let results = build_machines(call.host(), &wanted, watch)?;
    let ahead = found.into_iter().zip(results).filter_map(|((machine, known), built)| {
        Some((machine.name.clone(), BuiltAhead { machine, known, built: built.ok()? }))
    });
    Ok(ahead.collect())
}
