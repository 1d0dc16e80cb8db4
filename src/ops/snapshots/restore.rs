//! `restore-snapshot`: brings the data back to a snapshot.
//!
//! A new layer is made on the snapshot's, and the domain is defined on it: this is the commit point. It freezes the layer that
//! was in use, and the same definition records that layer as a snapshot, so nothing is lost and can be restored likewise.
//! Layers form a tree: later snapshots keep their backing files and stay as they are.

use std::time::Duration;

use serde::Serialize;

use crate::config;
use crate::disks::layers::Layers;
use crate::disks::{layer_of, next_layer, nvram};
use crate::error::{Failure, Result};
use crate::host::{Setup, Watch};
use crate::hypervisor::Owned;
use crate::journal::{Command, Intent};
use crate::model::record::{Metadata, Snapshot};
use crate::model::volume::{Role, VolumeStem};
use crate::model::{MachineName, SnapshotName};
use crate::storage::Pool;
use crate::work::known::no_snapshot;
use crate::work::power::{on_again, power_on};
use crate::work::shutdown::{force_stop, take_down};
use crate::work::{Plan, Work, steps};

/// Longest name of a snapshot, in bytes (`SnapshotName`).
const LONGEST_NAME: usize = 63;

#[derive(Debug, Clone, Copy)]
pub struct RestoreOptions {
    /// How long the guest may take to shut down.
    pub timeout: Duration,
    /// Whether the power is cut instead.
    pub force: bool,
    /// Whether the present data is deleted instead of kept as a snapshot.
    pub discard: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    pub machine: MachineName,
    pub snapshot: SnapshotName,
    /// The snapshot that keeps the data of before; `None` where that was not wanted.
    pub before: Option<SnapshotName>,
    pub running: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    PowerOff,
    Overlay { volume: String, on: String },
    KeepNvram(String),
    NextNvram(String),
    Define(u32),
    PutNvram,
    DropNvram,
    Delete(String),
    Start,
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::PowerOff => "shut the machine down".into(),
            Step::Overlay { .. } => "make a new layer on the snapshot's".into(),
            Step::KeepNvram(_) => "keep the firmware's variables".into(),
            Step::NextNvram(_) => "make the snapshot's firmware variables ready".into(),
            Step::Define(_) => "define the domain on the new layer".into(),
            Step::PutNvram => "put the snapshot's firmware variables in force".into(),
            Step::DropNvram => "delete the firmware's variables".into(),
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
            Step::Overlay { volume, .. }
            | Step::KeepNvram(volume)
            | Step::NextNvram(volume)
            | Step::Delete(volume) => vec![volume.clone()],
            _ => Vec::new(),
        }
    }
}

/// Returns the steps that put the layer `new` on that of the snapshot `to`.
///
/// `ran` says whether the machine is to run at the end. `nvram` says whether it has firmware variables now; they are kept
/// with its layer, unless the layers in `unused` are deleted.
///
/// Only steps that need the machine off are between its stop and its start: the others may have to wait for other commands.
fn plan(
    stem: &VolumeStem,
    to: &Snapshot,
    (old, new): (u32, u32),
    ran: bool,
    nvram: bool,
    unused: Option<&[u32]>,
) -> Vec<Step> {
    let [on, volume] = [to.layer, new].map(|layer| Role::Data(layer).of(stem));
    let mut steps = vec![Step::Overlay { volume, on }];
    if to.nvram {
        steps.push(Step::NextNvram(Role::NextNvram(new).of(stem)));
    }
    if ran {
        steps.push(Step::PowerOff);
    }
    if nvram && unused.is_none() {
        steps.push(Step::KeepNvram(Role::FrozenNvram(old).of(stem)));
    }
    steps.push(Step::Define(new));
    if to.nvram {
        steps.push(Step::PutNvram);
    } else if nvram {
        // At the snapshot the machine had never been started. Should nixvm die before this step, it keeps the variables of a
        // later boot, and boots with them as well.
        steps.push(Step::DropNvram);
    }
    if ran {
        steps.push(Step::Start);
    }
    let unused = unused.unwrap_or_default().iter();
    steps.extend(unused.map(|layer| Step::Delete(Role::Data(*layer).of(stem))));
    steps
}

/// Brings a machine back to a snapshot. A running machine is stopped before and started after.
///
/// # Errors
/// A machine that was stopped for this is started again, as it was.
pub fn restore_snapshot(
    setup: &Setup,
    name: &MachineName,
    snapshot: &SnapshotName,
    options: RestoreOptions,
    watch: &dyn Watch,
) -> Result<Restored> {
    let command = Command::new("restore-snapshot", [name.as_str(), snapshot.as_str()]);
    let work = Work::begin_command(setup, name, command, watch)?;
    let (pool, domain) = (work.pool()?, work.domain()?);
    // Checked before the machine is stopped.
    find(&Layers::of(&pool, &domain)?.metadata, &pool, snapshot)?;
    config::load(&setup.workspace, name)?;
    let ran = work.is_to_run(&domain)?;
    let restored = if work.was_committed(&domain)? {
        finish(&work, &pool, &domain, snapshot, ran)
    } else {
        restore(&work, &pool, &domain, snapshot, options, ran)
    };
    let before = on_again(&work, ran, restored)?;
    let kept = before.as_ref().map(|before| format!("; the data of before is the snapshot {before}"));
    watch.done(&format!("Restored the snapshot {snapshot} of {name}{}", kept.unwrap_or_default()));
    Ok(Restored { machine: name.clone(), snapshot: snapshot.clone(), before, running: ran })
}

fn restore(
    work: &Work,
    pool: &Pool,
    domain: &Owned,
    name: &SnapshotName,
    options: RestoreOptions,
    ran: bool,
) -> Result<Option<SnapshotName>> {
    nvram::put_in_force(pool, domain)?;
    if domain.state()?.is_active() {
        // The layers must not change until the machine is off.
        domain.end_merge()?;
    }
    let layers = Layers::of(pool, domain)?;
    let to = find(&layers.metadata, pool, name)?;
    let machine = config::load(&work.setup.workspace, &work.name)?;
    let (stem, old) = (&layers.stem, layer_of(domain)?);
    let new = next_layer(pool, stem)?;
    let nvram = nvram::exists(pool, stem)?;

    let mut metadata = layers.metadata.clone();
    let before = if options.discard { None } else { Some(before(&metadata, name)?) };
    metadata.snapshots.extend(before.clone().map(|name| layers.snapshot(name, old, nvram)));
    let unused = options.discard.then(|| layers.unused_from(old, &metadata, new));
    let mut steps = plan(stem, &to, (old, new), ran, nvram, unused.as_deref());
    steps.extend(layers.merged.iter().cloned().map(Step::Delete));

    work.watch.step(&format!("Restoring the snapshot {name} of {}", work.name));
    work.carry_out(&steps, |step| match step {
        Step::PowerOff if options.force => force_stop(work.setup, &work.name, work.watch).map(drop),
        Step::PowerOff => take_down(work, options.timeout).map(drop),
        Step::Overlay { volume, on } => pool.overlay(volume, on).map(drop),
        Step::KeepNvram(_) => nvram::copy(pool, stem, &Role::Nvram, &Role::FrozenNvram(old)),
        Step::NextNvram(_) => nvram::copy(pool, stem, &Role::FrozenNvram(to.layer), &Role::NextNvram(new)),
        Step::Define(_) => steps::define_on_layer(work, domain, &machine, &metadata, new),
        Step::PutNvram => nvram::put_in_force(pool, &work.domain()?),
        Step::DropNvram => pool.delete(&Role::Nvram.of(stem)).map(drop),
        Step::Delete(volume) => pool.delete(volume).map(drop),
        Step::Start => power_on(work, &work.domain()?),
    })?;
    Ok(before)
}

/// Completes a restore that was interrupted after the machine was defined on the new layer, and returns the snapshot that keeps
/// the data of before. Starting over would keep the new, empty layer as that snapshot.
fn finish(
    work: &Work,
    pool: &Pool,
    domain: &Owned,
    name: &SnapshotName,
    ran: bool,
) -> Result<Option<SnapshotName>> {
    let metadata = domain.metadata();
    let mut steps = vec![Step::Define(layer_of(domain)?)];
    // It may have been started again already.
    if !domain.state()?.is_active() {
        // QEMU may have made variables that libvirt does not know yet; nothing may wait here, for the machine is to run again.
        pool.refresh_now()?;
        steps.push(if find(metadata, pool, name)?.nvram { Step::PutNvram } else { Step::DropNvram });
        steps.extend(ran.then_some(Step::Start));
    }
    work.carry_out(&steps, |step| match step {
        Step::PutNvram => nvram::put_in_force(pool, domain),
        Step::DropNvram => pool.delete(&Role::Nvram.of(&metadata.stem)).map(drop),
        Step::Start => power_on(work, domain),
        // Already taken; it is in the journal so that another interruption is recognised too.
        _ => Ok(()),
    })?;
    let since = work.resumed.as_ref().map_or(0, |interrupted| interrupted.holder.since);
    let last = metadata.snapshots.last().filter(|last| last.taken >= since);
    Ok(last.map(|last| last.name.clone()))
}

/// Returns the snapshot of that name, after checking that its volumes exist.
fn find(metadata: &Metadata, pool: &Pool, name: &SnapshotName) -> Result<Snapshot> {
    let snapshot = metadata.snapshot(name).cloned();
    let snapshot = snapshot.ok_or_else(|| no_snapshot(metadata, name))?;
    pool.chain(&Role::Data(snapshot.layer).of(&metadata.stem))?;
    let nvram = Role::FrozenNvram(snapshot.layer).of(&metadata.stem);
    if snapshot.nvram && !pool.is_whole(&nvram)? {
        return Err(Failure::user(format!(
            "the snapshot `{name}` lacks its firmware variables: the volume `{nvram}` is missing; nothing was changed"
        ))
        .hint(format!("put it back into the pool `{}`", pool.name()))
        .into());
    }
    Ok(snapshot)
}

/// Returns an unused name for the snapshot of the data before `name` was restored.
fn before(metadata: &Metadata, name: &SnapshotName) -> Result<SnapshotName> {
    let candidate = |number: u32| -> Result<SnapshotName> {
        let number = if number < 2 { String::new() } else { format!("-{number}") };
        let mut text = format!("before-{name}");
        text.truncate(LONGEST_NAME - number.len());
        Ok(format!("{}{number}", text.trim_end_matches('-')).parse()?)
    };
    let mut number = 1;
    loop {
        let name = candidate(number)?;
        if metadata.snapshot(&name).is_none() {
            return Ok(name);
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::layers::tests::layers;
    use crate::model::record::tests::snapshot;

    fn stem() -> VolumeStem {
        "web".parse().unwrap()
    }

    #[test]
    fn nothing_of_the_old_is_touched_before_the_definition() {
        let overlay = Step::Overlay { volume: "web.data-9.qcow2".into(), on: "web.data-2.qcow2".into() };
        assert_eq!(
            plan(&stem(), &snapshot("a", 2), (4, 9), true, true, None),
            [
                overlay,
                Step::NextNvram("web.nvram-next-9.fd".into()),
                Step::PowerOff,
                Step::KeepNvram("web.nvram-4.fd".into()),
                Step::Define(9),
                Step::PutNvram,
                Step::Start
            ]
        );
        let discarding = plan(&stem(), &snapshot("a", 2), (4, 9), true, true, Some(&[4]));
        let at = |step: &Step| discarding.iter().position(|other| other == step);
        assert!(at(&Step::Define(9)) < at(&Step::Delete("web.data-4.qcow2".into())));
        assert!(
            at(&Step::Start) < at(&Step::Delete("web.data-4.qcow2".into())),
            "a deletion may have to wait"
        );
        assert!(!discarding.iter().any(|step| matches!(step, Step::KeepNvram(_))));
        let unbooted = Snapshot { nvram: false, ..snapshot("a", 2) };
        let off = plan(&stem(), &unbooted, (4, 9), false, true, None);
        assert_eq!(off.last(), Some(&Step::DropNvram));
    }

    #[test]
    fn what_was_there_gets_a_name_of_its_own() {
        let long = "x".repeat(63);
        let metadata = layers(&[1], &[], &[("before-a", 2), ("before-a-2", 3)]).metadata;
        let name = |text: &str| before(&metadata, &text.parse().unwrap()).unwrap().to_string();
        assert_eq!(name("b"), "before-b");
        assert_eq!(name("a"), "before-a-3");
        assert_eq!(name(&long), format!("before-{}", "x".repeat(56)));
    }
}
