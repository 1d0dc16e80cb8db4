//! `create`: from a name to a machine that can be started.

use serde::Serialize;

use crate::build::{BuiltMachine, build_machine};
use crate::config::{self, NewMachine};
use crate::disks::{data_layers, free_stem};
use crate::error::Result;
use crate::guest::trial;
use crate::host::{Setup, Watch, ensure_network, memory, preflight, subnet};
use crate::model::Machine;
use crate::model::record::{Generations, Metadata};
use crate::model::volume::{Role, VolumeStem};
use crate::work::{Plan, Work, steps};

/// A machine that was created.
#[derive(Debug, Clone, Serialize)]
pub struct Created {
    /// What was built for it.
    #[serde(flatten)]
    pub built: BuiltMachine,
    /// The volume that holds its data.
    pub data_volume: String,
}

/// Writes `machines/NAME`, filling in only what is missing, and returns the machine.
///
/// # Errors
/// A value or an existing file is not valid; nothing is written then.
pub fn declare(setup: &Setup, new: &NewMachine, watch: &dyn Watch) -> Result<Machine> {
    let known = config::exists(&setup.workspace, &new.name);
    let machine = config::create(&setup.workspace, new)?;
    let folder = setup.workspace.machine_dir(&machine.name);
    match known {
        true => watch.note(&format!("`{}` exists; what it says was kept", folder.display())),
        false => watch.done(&format!("Wrote {}", folder.display())),
    }
    Ok(machine)
}

/// What `create` does once the image is built. The domain, which makes the machine visible, comes last.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Network,
    Base,
    Boot(String),
    Data(String),
    Identity(String),
    Define,
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Network => "see that the network is there".into(),
            Step::Base => "put the base image into the pool".into(),
            Step::Boot(_) => "put the boot disk into the pool".into(),
            Step::Data(_) => "make the data disk".into(),
            Step::Identity(_) => "write the identity volume".into(),
            Step::Define => "define the domain".into(),
        }
    }

    fn volumes(&self) -> Vec<String> {
        match self {
            Step::Boot(volume) | Step::Data(volume) | Step::Identity(volume) => vec![volume.clone()],
            Step::Network | Step::Base | Step::Define => Vec::new(),
        }
    }
}

/// Returns the steps of `create`; `kept` is the layer of data that is in the pool already.
fn plan(stem: &VolumeStem, generation: u32, kept: Option<u32>) -> Vec<Step> {
    let mut steps = vec![Step::Network, Step::Base, Step::Boot(Role::Boot(generation).of(stem))];
    if kept.is_none() {
        steps.push(Step::Data(Role::Data(1).of(stem)));
    }
    steps.extend([Step::Identity(Role::Identity.of(stem)), Step::Define]);
    steps
}

/// Builds a declared machine, puts its disks into the pool and defines its domain.
///
/// # Errors
/// A domain of that name exists, or a step fails; running `create` again completes the work, and data that is in the pool already is kept.
pub fn create(setup: &Setup, machine: &Machine, watch: &dyn Watch) -> Result<Created> {
    let name = &machine.name;
    preflight(setup, name, Some(&machine.network))?;
    let work = Work::begin(setup, name, "create", watch)?;
    work.host.check_free(name, machine.machine_id)?;
    work.host.check_mac(name, machine.machine_id, machine.mac)?;
    memory::warn_total(&work.host, name, machine.memory, watch)?;
    subnet::note_faults(&work.host, &machine.network, watch)?;
    let built = build_machine(setup, machine, None, watch)?;

    let pool = work.pool()?;
    let stem = free_stem(&work.host, name)?;
    let kept = data_layers(&pool, &stem)?.last().copied();
    if let Some(layer) = kept {
        watch.note(&format!(
            "the pool has a data disk of {name} already, `{}`; it is kept as it is",
            Role::Data(layer).of(&stem)
        ));
    }
    let layer = kept.unwrap_or(1);
    let metadata = Metadata {
        machine: name.clone(),
        workspace: setup.workspace.root().display().to_string(),
        stem: stem.clone(),
        ssh_port: None,
        generations: Generations::first(steps::record(machine, &built)),
        snapshots: Vec::new(),
    };
    work.carry_out(&plan(&stem, built.generation.number, kept), |step| match step {
        Step::Network => ensure_network(&work.host, &machine.network),
        Step::Base => steps::put_base(&work, &pool, &built.image),
        Step::Boot(volume) => {
            // What lies there under this name is of a `create` that nobody remembers: no domain uses it.
            pool.delete(volume)?;
            trial::forget(setup, name)?;
            steps::put_boot(&work, &pool, volume, &built)
        }
        Step::Data(volume) => steps::make_data(&work, &pool, volume, machine),
        Step::Identity(_) => steps::put_identity(&work, &pool, &stem, machine),
        Step::Define => steps::define(setup, &work.host, machine, &metadata, layer, watch),
    })?;
    watch.done(&format!("Defined {name}"));
    Ok(Created { built, data_volume: Role::Data(layer).of(&stem) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_is_there_is_never_made_anew_and_the_domain_comes_last() {
        let stem: VolumeStem = "web".parse().unwrap();
        let new = plan(&stem, 1, None);
        assert!(new.contains(&Step::Data("web.data-1.qcow2".into())));
        let kept = plan(&stem, 1, Some(3));
        assert!(!kept.iter().any(|step| matches!(step, Step::Data(_))));
        for steps in [new, kept] {
            assert_eq!(steps.last(), Some(&Step::Define));
            assert!(!steps.iter().flat_map(Step::volumes).any(|volume| volume == "web.data-3.qcow2"));
        }
    }
}
