//! `recreate`: the same machine with new disks.
//!
//! All new disks are there before the machine goes off, and all old ones until the domain is defined on the new.

use std::time::Duration;

use serde::Serialize;

use crate::build::{Wanted, build_machine, kept};
use crate::config;
use crate::disks::layers::forget_checkpoints;
use crate::disks::{layer_of, next_layer, nvram};
use crate::error::{Failure, Result};
use crate::file;
use crate::host::{Setup, Watch, check_bridge};
use crate::hypervisor::Owned;
use crate::journal::Intent;
use crate::model::record::{Generations, Metadata};
use crate::model::volume::{self, Role, VolumeStem};
use crate::model::{Machine, MachineName, Network, Size};
use crate::work::power::{on_again, power_on};
use crate::work::shutdown::take_down;
use crate::work::steps::{Deploy, Deployment, record};
use crate::work::{Plan, Work};

/// The values to change; `None` keeps one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Anew {
    pub var_size: Option<Size>,
    pub network: Option<Network>,
}

/// The result of `recreate`.
#[derive(Debug, Clone, Serialize)]
pub struct Recreated {
    pub machine: MachineName,
    /// Its only generation.
    pub generation: u32,
    /// Options and packages that the offline base does not support.
    pub not_carried_out: Vec<String>,
    pub data_volume: String,
    pub deleted: Vec<String>,
    pub running: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Deploy(Deploy),
    Files,
    PowerOff,
    Define(u32),
    Kept,
    Checkpoints,
    Delete(String),
    Start,
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Deploy(step) => step.title(),
            Step::Files => "write the machine's files".into(),
            Step::PowerOff => "shut the machine down".into(),
            Step::Define(_) => "define the domain on the new disks".into(),
            Step::Kept => "forget what the old generations were made from".into(),
            Step::Checkpoints => "forget the checkpoints of the old data disk".into(),
            Step::Delete(volume) => format!("delete {volume}"),
            Step::Start => "start the machine".into(),
        }
    }

    fn intent(&self) -> Option<Intent> {
        match self {
            Step::Define(layer) => Some(Intent::Layer(*layer)),
            Step::Start => Some(Intent::Restart),
            _ => None,
        }
    }

    fn volumes(&self) -> Vec<String> {
        match self {
            Step::Deploy(step) => step.volumes(),
            Step::Delete(volume) => vec![volume.clone()],
            _ => Vec::new(),
        }
    }
}

/// `generation` and `layer` number the new disks, and `present` are the pool's volumes.
fn plan(stem: &VolumeStem, generation: u32, layer: u32, present: &[String], running: bool) -> Vec<Step> {
    let mut steps = vec![
        Step::Deploy(Deploy::Network),
        Step::Deploy(Deploy::Base),
        Step::Deploy(Deploy::Boot(Role::Boot(generation).of(stem))),
        Step::Deploy(Deploy::Data(Role::Data(layer).of(stem))),
        Step::Files,
    ];
    if running {
        steps.push(Step::PowerOff);
    }
    steps.extend([Step::Define(layer), Step::Kept, Step::Checkpoints]);
    let old = |volume: &&String| match volume::parse(volume) {
        Some((owner, role)) if owner == *stem => match role {
            Role::Boot(number) => number != generation,
            Role::Data(number) => number != layer,
            // libvirt makes new variables at the next start.
            Role::Nvram | Role::NextNvram(_) | Role::FrozenNvram(_) | Role::Backup => true,
            // Rewritten at a start; written by libvirt; part of an upload that may be running.
            Role::Identity | Role::SerialLog(_) | Role::Part => false,
        },
        _ => false,
    };
    // With the old variables the firmware would boot the old disk. The other deletions come last, because they may have to wait.
    let (variables, rest): (Vec<&String>, Vec<&String>) = present
        .iter()
        .filter(old)
        .partition(|volume| matches!(volume::parse(volume), Some((_, Role::Nvram | Role::NextNvram(_)))));
    steps.extend(variables.into_iter().cloned().map(Step::Delete));
    if running {
        steps.push(Step::Start);
    }
    steps.extend(rest.into_iter().cloned().map(Step::Delete));
    steps
}

/// Replaces every disk of a machine: the boot disk by one from its files as they are now, the data disk by an empty one.
///
/// A running machine is shut down for it, within `limit`, and started again. Until the domain is defined on the new disks, the
/// machine has the old ones with all data.
pub fn recreate(
    setup: &Setup,
    name: &MachineName,
    asked: &Anew,
    limit: Duration,
    watch: &dyn Watch,
) -> Result<Recreated> {
    let work = Work::begin(setup, name, "recreate", watch)?;
    let domain = work.domain()?;
    let declared = config::load(&setup.workspace, name)?;
    let machine = Machine {
        var_size: asked.var_size.unwrap_or(declared.var_size),
        network: asked.network.clone().unwrap_or(declared.network),
        ..declared
    };
    check_bridge(&work.host, &machine.network)?;
    if work.was_committed(&domain)? {
        return finish(&work, &domain, asked);
    }
    let before = domain.metadata();
    let wanted = Wanted { anew: true, ..Wanted::declared(setup, &machine, Some(&before.generations)) };
    let built = build_machine(setup, &wanted, watch)?;

    let pool = work.pool()?;
    let stem = &before.stem;
    let layer = next_layer(&pool, stem)?;
    let running = work.is_to_run(&domain)?;
    let after = Metadata {
        generations: Generations::first(record(&machine, &built)),
        snapshots: Vec::new(),
        ..before.clone()
    };
    let deployment = Deployment {
        work: &work,
        pool: &pool,
        machine: &machine,
        built: Some(&built),
        metadata: &after,
        layer,
    };
    // QEMU made the firmware's variables: until somebody asks for them, libvirt does not know that volume.
    nvram::exists(&pool, stem)?;
    let steps = plan(stem, built.generation.number, layer, &pool.volumes()?, running);
    let done = work.carry_out(&steps, |step| match step {
        Step::Deploy(step) => deployment.take(step),
        Step::Files => write_files(&work, asked),
        Step::PowerOff => take_down(&work, limit).map(drop),
        Step::Define(_) => {
            require_off(&work)?;
            deployment.take(&Deploy::Define)
        }
        Step::Kept => {
            file::remove_folder(&kept::of_machine(setup, name))?;
            kept::keep(setup, &built)
        }
        Step::Checkpoints => forget_checkpoints(&domain, watch),
        Step::Delete(volume) => pool.delete(volume).map(drop),
        Step::Start => power_on(&work, &work.domain()?),
    });
    on_again(&work, running, done)?;
    watch.done(&format!("Recreated {name}, with an empty data disk of {}", machine.var_size.exact()));
    let deleted = steps.into_iter().filter_map(|step| match step {
        Step::Delete(volume) => Some(volume),
        _ => None,
    });
    Ok(Recreated {
        machine: name.clone(),
        generation: built.generation.number,
        not_carried_out: built.not_carried_out,
        data_volume: Role::Data(layer).of(stem),
        deleted: deleted.collect(),
        running,
    })
}

/// Finishes a `recreate` that was interrupted after the definition: the guest may have written to the new disks since, so they
/// stay. The old disks were deleted when the work was cleaned up, and `clean` removes the records of old generations.
fn finish(work: &Work, domain: &Owned, asked: &Anew) -> Result<Recreated> {
    let (name, metadata) = (&work.name, domain.metadata());
    let (generation, stem, layer) = (metadata.current().number, &metadata.stem, layer_of(domain)?);
    let (pool, ran) = (work.pool()?, work.was_to(Intent::Restart));
    let mut steps = vec![Step::Define(layer), Step::Files];
    if !domain.state()?.is_active() {
        // The machine is to run again, so nothing may wait here; a volume that libvirt does not know then stays.
        pool.refresh_now()?;
        steps.extend([Step::Checkpoints, Step::Delete(Role::Nvram.of(stem))]);
        steps.extend(ran.then_some(Step::Start));
    }
    let done = work.carry_out(&steps, |step| match step {
        Step::Files => write_files(work, asked),
        Step::Checkpoints => forget_checkpoints(domain, work.watch),
        Step::Delete(volume) => pool.delete(volume).map(drop),
        Step::Start => power_on(work, domain),
        // The definition is in the plan for the journal alone.
        _ => Ok(()),
    });
    on_again(work, ran, done)?;
    work.watch.done(&format!("Recreated {name}: an interrupted `nixvm recreate {name}` is finished"));
    Ok(Recreated {
        machine: name.clone(),
        generation,
        not_carried_out: Vec::new(),
        data_volume: Role::Data(layer).of(stem),
        deleted: Vec::new(),
        running: ran,
    })
}

fn write_files(work: &Work, asked: &Anew) -> Result<()> {
    let change = config::change(&work.setup.workspace, &work.name, |files| {
        files.var_size = asked.var_size.or(files.var_size);
        files.network = asked.network.clone().or(files.network.take());
    });
    change.map(drop)
}

/// A guest that somebody started meanwhile would go on writing to the disks that are deleted next.
fn require_off(work: &Work) -> Result<()> {
    if !work.domain()?.state()?.is_active() {
        return Ok(());
    }
    Err(Failure::user(format!("{} was started meanwhile; it has its old disks", work.name))
        .hint("see who did, and run the command again")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_old_is_deleted_before_the_definition_nor_the_machine_stopped_before_all_is_there() {
        let stem: VolumeStem = "web".parse().unwrap();
        let present = [
            "web.boot-3.qcow2",
            "web.boot-4.qcow2",
            "web.data-1.qcow2",
            "web.data-2.qcow2",
            "web.identity.img",
            "web.nvram.fd",
            "web.nvram-1.fd",
            "web.serial.log",
            "web-prod.data-1.qcow2",
            "nixvm-base-0.qcow2",
        ]
        .map(str::to_owned);
        let steps = plan(&stem, 4, 3, &present, true);
        let at = |wanted: &Step| steps.iter().position(|step| step == wanted).unwrap();
        let define = at(&Step::Define(3));
        let deleted: Vec<&str> = steps[define..]
            .iter()
            .filter_map(|step| match step {
                Step::Delete(volume) => Some(volume.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(
            deleted,
            ["web.nvram.fd", "web.boot-3.qcow2", "web.data-1.qcow2", "web.data-2.qcow2", "web.nvram-1.fd"]
        );
        let start = at(&Step::Start);
        assert!(at(&Step::Delete("web.nvram.fd".into())) < start);
        assert!(at(&Step::Delete("web.data-1.qcow2".into())) > start, "a deletion may have to wait");
        assert!(!steps[..define].iter().any(|step| matches!(step, Step::Delete(_))));
        assert!(at(&Step::Deploy(Deploy::Data("web.data-3.qcow2".into()))) < at(&Step::PowerOff));
        assert!(at(&Step::Deploy(Deploy::Boot("web.boot-4.qcow2".into()))) < at(&Step::PowerOff));
        let off = plan(&stem, 4, 3, &present, false);
        assert!(!off.iter().any(|step| matches!(step, Step::PowerOff | Step::Start)));
    }
}
