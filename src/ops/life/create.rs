//! `create`: a declared machine gets its disks and its domain.

use serde::Serialize;

use crate::build::{BuiltAhead, BuiltMachine, Wanted, build_machine};
use crate::config::{self, NewMachine};
use crate::disks::free_stem;
use crate::error::Result;
use crate::guest::trial;
use crate::host::{Setup, Watch, memory, preflight, subnet};
use crate::model::Machine;
use crate::model::volume::{Role, VolumeStem};
use crate::work::steps::{Deploy, Deployment, first_metadata, left_data};
use crate::work::{Work, autostart};

/// The result of `create`.
#[derive(Debug, Clone, Serialize)]
pub struct Created {
    #[serde(flatten)]
    pub built: BuiltMachine,
    pub data_volume: String,
}

/// Writes the missing files of `machines/NAME`, or nothing at all if a value is not valid.
pub fn declare(setup: &Setup, new: &NewMachine, watch: &dyn Watch) -> Result<Machine> {
    let known = config::exists(&setup.workspace, &new.name);
    let machine = config::create(&setup.workspace, new)?;
    let folder = setup.workspace.machine_dir(&machine.name);
    if known {
        watch.note(&format!("`{}` exists; its files were kept", folder.display()));
    } else {
        watch.done(&format!("Wrote {}", folder.display()));
    }
    Ok(machine)
}

/// Returns the steps of `create`; `kept` is the layer of data that is in the pool already.
fn plan(stem: &VolumeStem, generation: u32, kept: Option<u32>) -> Vec<Deploy> {
    let mut steps = vec![Deploy::Network, Deploy::Base, Deploy::Boot(Role::Boot(generation).of(stem))];
    if kept.is_none() {
        steps.push(Deploy::Data(Role::Data(1).of(stem)));
    }
    steps.extend([Deploy::Identity(Role::Identity.of(stem)), Deploy::Define]);
    steps
}

/// Builds a declared machine, unless it was built `ahead`, puts its disks into the pool and defines its domain.
///
/// After an error, running `create` again completes the work. A data disk that the pool has already is kept.
pub fn create(
    setup: &Setup,
    machine: &Machine,
    ahead: Option<&BuiltAhead>,
    watch: &dyn Watch,
) -> Result<Created> {
    let name = &machine.name;
    preflight(setup, name, Some(&machine.network))?;
    let work = Work::begin(setup, name, "create", watch)?;
    work.host.check_free(name, machine.machine_id)?;
    work.host.check_mac(name, machine.machine_id, machine.mac)?;
    memory::warn_total(&work.host, name, machine.memory, watch)?;
    subnet::note_faults(&work.host, &machine.network, watch)?;
    let built = match ahead.and_then(|ahead| ahead.of(machine, None)) {
        Some(built) => built,
        None => build_machine(setup, &Wanted::declared(setup, machine, None), watch)?,
    };

    let pool = work.pool()?;
    let stem = free_stem(&work.host, name)?;
    let kept = left_data(&work, &pool, &stem)?;
    let layer = kept.unwrap_or(1);
    let metadata = &first_metadata(setup, stem.clone(), machine, &built);
    let deployment = Deployment { work: &work, pool: &pool, machine, built: Some(&built), metadata, layer };
    work.carry_out(&plan(&stem, built.generation.number, kept), |step| {
        if matches!(step, Deploy::Boot(_)) {
            trial::forget(setup, name)?;
        }
        deployment.take(step)
    })?;
    watch.done(&format!("Defined {name}"));
    if machine.autostart {
        autostart::note_session(&work.host, name, watch);
    }
    Ok(Created { built, data_volume: Role::Data(layer).of(&stem) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Plan;

    #[test]
    fn data_that_is_there_is_never_made_anew_and_the_domain_comes_last() {
        let stem: VolumeStem = "web".parse().unwrap();
        let new = plan(&stem, 1, None);
        assert!(new.contains(&Deploy::Data("web.data-1.qcow2".into())));
        let kept = plan(&stem, 1, Some(3));
        assert!(!kept.iter().any(|step| matches!(step, Deploy::Data(_))));
        for steps in [new, kept] {
            assert_eq!(steps.last(), Some(&Deploy::Define));
            assert!(!steps.iter().flat_map(Deploy::volumes).any(|volume| volume == "web.data-3.qcow2"));
        }
    }
}
