//! Builds for several upgrades at once, before the first machine is touched.

use std::collections::BTreeMap;

use crate::build::{self, BuiltAhead};
use crate::config;
use crate::error::Result;
use crate::host::{Call, Watch};
use crate::model::MachineName;

/// Builds the next generations of machines at once. It leaves out a machine that cannot be built or has no domain: its upgrade says
/// why.
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
        Some((machine, Some(domain.metadata().generations.clone())))
    });
    let ahead = build::build_ahead(call.host(), found.collect(), watch)?;
    Ok(ahead.into_iter().filter_map(|(name, built)| Some((name, built.ok()?))).collect())
}
