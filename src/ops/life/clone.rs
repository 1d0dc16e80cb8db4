//! `clone`: a new machine like another, with its own identity, with or without the data.

use std::path::PathBuf;

use serde::Serialize;

use crate::build::{BuiltMachine, Wanted, build_machine, kept};
use crate::config;
use crate::disks::{data_capacity, free_stem, layer_of, next_layer};
use crate::error::{Failure, Result};
use crate::file;
use crate::host::{Setup, Watch, accelerator, moved, preflight};
use crate::hypervisor::BackupRequest;
use crate::model::volume::{Role, VolumeStem};
use crate::model::{Machine, MachineName, Size};
use crate::render;
use crate::storage::Pool;
use crate::work::steps::{Deploy, Deployment, first_metadata};
use crate::work::{Plan, Work};

/// The result of `clone`.
#[derive(Debug, Clone, Serialize)]
pub struct Cloned {
    pub source: MachineName,
    #[serde(flatten)]
    pub built: BuiltMachine,
    pub data_volume: String,
    pub with_data: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Deploy(Deploy),
    Copy { volume: String, from: String },
    Files,
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Deploy(step) => step.title(),
            Step::Copy { from, .. } => format!("copy {from}"),
            Step::Files => "write the new machine's files".into(),
        }
    }

    fn volumes(&self) -> Vec<String> {
        match self {
            Step::Deploy(step) => step.volumes(),
            Step::Copy { volume, .. } => vec![volume.clone()],
            Step::Files => Vec::new(),
        }
    }
}

/// The domain, which makes the new machine visible, comes last. `from` is the volume to copy.
fn plan(stem: &VolumeStem, generation: u32, layer: u32, from: Option<&str>) -> Vec<Step> {
    let volume = Role::Data(layer).of(stem);
    vec![
        Step::Deploy(Deploy::Network),
        Step::Deploy(Deploy::Base),
        Step::Deploy(Deploy::Boot(Role::Boot(generation).of(stem))),
        match from {
            Some(from) => Step::Copy { volume, from: from.to_owned() },
            None => Step::Deploy(Deploy::Data(volume)),
        },
        Step::Deploy(Deploy::Identity(Role::Identity.of(stem))),
        Step::Files,
        Step::Deploy(Deploy::Define),
    ]
}

/// Makes the machine `new` like `name`, with a copy of its data or an empty data disk. Each has the setup of its place.
///
/// The machine `name` is never changed. After an error, running `clone` again completes the work.
pub fn clone(
    (from_setup, name): (&Setup, &MachineName),
    (setup, new): (&Setup, &MachineName),
    with_data: bool,
    watch: &dyn Watch,
) -> Result<Cloned> {
    let (source, work) = Work::begin_both((from_setup, name), (setup, new), "clone", watch)?;
    let original = config::load(&setup.workspace, name)?;
    preflight(setup, new, Some(&original.network))?;
    let pool = work.pool()?;
    let from_pool = source.pool()?;
    let data = if with_data { Some(data_of(&source, &from_pool)?) } else { None };
    let machine = like(setup, &original, new, data.as_ref().map(|(_, size)| *size))?;
    work.host.check_free(new, machine.machine_id)?;
    let folder = setup.workspace.machine_dir(name);
    let wanted = Wanted { machine: &machine, beside: folder.clone(), known: None, anew: false };
    let built = build_machine(setup, &wanted, watch)?;

    let stem = free_stem(&work.host, new)?;
    let layer = next_layer(&pool, &stem)?;
    let metadata = &first_metadata(setup, stem.clone(), &machine, &built);
    let deployment =
        Deployment { work: &work, pool: &pool, machine: &machine, built: Some(&built), metadata, layer };
    let from = data.as_ref().map(|(volume, _)| volume.as_str());
    work.carry_out(&plan(&stem, built.generation.number, layer, from), |step| match step {
        Step::Deploy(step) => {
            if matches!(step, Deploy::Boot(_)) {
                // Left from a machine that had the name before.
                file::remove_folder(&kept::of_machine(setup, new))?;
            }
            deployment.take(step)
        }
        Step::Copy { volume, from } => copy(&source, (&pool, volume), (&from_pool, from)),
        Step::Files => {
            config::save(&setup.workspace, &machine)?;
            let extra = machine.extra.as_deref().unwrap_or_default();
            let beside: Vec<PathBuf> = render::companions(&folder, name, extra)?
                .into_iter()
                .map(|companion| companion.path)
                .collect();
            config::copy_beside(&setup.workspace, name, new, &beside)?;
            config::copy_health_check(&setup.workspace, name, new).map(drop)
        }
    })?;
    watch.done(&format!(
        "Cloned {name} as {new}, {}",
        if with_data { "with its data" } else { "without data" }
    ));
    if machine.autostart {
        watch.note(&format!(
            "{new} starts with its host, as {name} does; `nixvm set {new} autostart=no` keeps it from that"
        ));
    }
    Ok(Cloned { source: name.clone(), built, data_volume: Role::Data(layer).of(&stem), with_data })
}

fn data_of(source: &Work, pool: &Pool) -> Result<(String, Size)> {
    let Some(domain) = source.host.own_if_any(&source.name)? else {
        return Err(Failure::user(format!("{} has no disks yet, so it has no data", source.name))
            .hint(format!("`nixvm create {}` makes them; or pass `--without-data`", source.name))
            .into());
    };
    let volume = Role::Data(layer_of(&domain)?).of(&domain.metadata().stem);
    Ok((volume, data_capacity(pool, &domain)?))
}

/// Copies a machine's data; a running machine's as it is at one instant.
fn copy(source: &Work, (pool, volume): (&Pool, &str), (from_pool, from): (&Pool, &str)) -> Result<()> {
    let (domain, watch) = (source.domain()?, source.watch);
    let running = domain.state()?.is_active();
    let accelerator = accelerator(source.setup, &source.host, watch)?;
    watch.step(&format!(
        "Copying the data of {}{}",
        source.name,
        if running { " while it runs" } else { "" }
    ));
    pool.duplicate(volume, (from_pool, from), &mut |from, to| {
        if !running {
            return source.host.copy_image(accelerator, from, to, &mut moved(watch));
        }
        // A killed `clone` leaves the job in QEMU running.
        domain.end_backup()?;
        let request = BackupRequest { path: to, since: None, checkpoint: None };
        if domain.backup_data(request, &mut moved(watch))?.is_none() {
            watch.note("the guest's agent does not answer, so the copy is like a disk after a power cut");
        }
        Ok(())
    })
    .map(drop)
}

/// Returns the machine to make. Its folder may be left from an interrupted `clone`.
fn like(setup: &Setup, original: &Machine, new: &MachineName, disk: Option<Size>) -> Result<Machine> {
    let machine = Machine {
        pool: Some(setup.pool.clone()),
        libvirt: Some(setup.libvirt()),
        // The data that counts is the original's; of the copy nobody has said so yet.
        protect: false,
        // The copy is as large as the disk, whatever the file says.
        var_size: disk.map_or(original.var_size, |disk| disk.max(original.var_size)),
        ..config::with_new_identity(original, new)?
    };
    if !config::exists(&setup.workspace, new) {
        return Ok(machine);
    }
    let there = config::load(&setup.workspace, new)?;
    if is_like(&there, &machine) && there.machine_id != original.machine_id {
        return Ok(there);
    }
    Err(Failure::user(format!("machines/{new} exists, and differs from machines/{}", original.name))
        .hint(format!("choose another name, or delete the folder: `nixvm purge {new}`"))
        .into())
}

/// Returns whether two machines differ only in their identity.
fn is_like(one: &Machine, other: &Machine) -> bool {
    let with_identity =
        Machine { machine_id: one.machine_id, mac: one.mac, host_key: one.host_key.clone(), ..other.clone() };
    *one == with_identity
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;
    use crate::model::{MacAddress, MachineId};

    #[test]
    fn the_domain_comes_last_and_nothing_of_the_other_machine_is_ever_in_danger() {
        let stem: VolumeStem = "db".parse().unwrap();
        for (from, data) in [
            (None, Step::Deploy(Deploy::Data("db.data-1.qcow2".into()))),
            (
                Some("web.data-2.qcow2"),
                Step::Copy { volume: "db.data-1.qcow2".into(), from: "web.data-2.qcow2".into() },
            ),
        ] {
            let steps = plan(&stem, 1, 1, from);
            assert!(steps.contains(&data));
            assert_eq!(steps.last(), Some(&Step::Deploy(Deploy::Define)));
            assert!(steps.iter().flat_map(Step::volumes).all(|volume| volume.starts_with("db.")));
        }
    }

    #[test]
    fn a_folder_of_an_earlier_try_is_known_by_all_but_its_identity() {
        let machine = sample::machine();
        let other =
            Machine { machine_id: MachineId::generate(), mac: MacAddress::generate(), ..machine.clone() };
        assert!(is_like(&other, &machine));
        assert!(!is_like(&Machine { self_contained: true, ..other }, &machine));
    }
}
