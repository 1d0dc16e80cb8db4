//! Finds what nothing needs; after the user agreed, looks again and deletes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::config;
use crate::error::Result;
use crate::file;
use crate::host::{Setup, Watch, open_pool, ownership, pool_of};
use crate::hypervisor::Hypervisor;
use crate::model::MachineName;
use crate::model::record::Metadata;
use crate::model::volume::{Role, is_base_volume};
use crate::render;
use crate::storage::Pool;
use crate::work::Work;
use crate::work::generations::{remove, running, superfluous};

use super::garbage::Garbage;
use super::stale;

/// Generations of a machine that are kept.
const KEEP: usize = 2;

/// Seconds that a base image must have been in the pool, by the pool's own clock. A newer one is about to be used, perhaps by
/// another workspace's nixvm, which would have to copy it again; nothing worse would happen.
const SETTLED: u64 = 60 * 60;

/// Returns everything that nothing needs. Changes nothing, except that a volume of one byte is made and deleted to learn the
/// pool's time.
pub fn garbage(setup: &Setup) -> Result<Vec<Garbage>> {
    let host = setup.hypervisor()?;
    let pool = open_pool(setup, &host)?;
    survey(setup, &host, &pool)
}

fn survey(setup: &Setup, host: &Hypervisor, pool: &Pool) -> Result<Vec<Garbage>> {
    let mut records = host.records()?;
    let mut backing = pool.backing_of_all()?;
    let mut found = Vec::new();
    for name in &ours(setup, host, &records)? {
        let domain = host.see(name)?;
        let metadata = domain.metadata().clone();
        // Its disks are in another pool.
        if !pool.is_whole(&Role::Boot(metadata.current().number).of(&metadata.stem))? {
            continue;
        }
        for number in superfluous(&metadata, running(&domain)?, KEEP) {
            let volume = Role::Boot(number).of(&metadata.stem);
            let bytes = pool.usage(&volume)?.map_or(0, |usage| usage.allocation);
            backing.remove(&volume);
            for record in records.iter_mut().filter(|record| record.machine == *name) {
                record.generations = record.generations.retain(|build| build.number != number);
            }
            found.push(Garbage::Generation { machine: name.clone(), number, volume, bytes });
        }
    }
    let unused = unused_bases(&pool.volumes()?, &records, &backing);
    let now = if unused.is_empty() { None } else { pool.now()? };
    for volume in unused {
        let settled = now.zip(pool.written(&volume)?).is_some_and(|(now, then)| is_settled(now, then));
        if let Some(usage) = pool.usage(&volume)?.filter(|_| settled) {
            found.push(Garbage::Base { volume, bytes: usage.allocation });
        }
    }
    found.extend(stale::files(setup, &records)?);
    Ok(found)
}

/// Returns this workspace's machines that have a domain, also those made before the workspace was moved.
fn ours(setup: &Setup, host: &Hypervisor, records: &[Metadata]) -> Result<BTreeSet<MachineName>> {
    let mut names = BTreeSet::new();
    for record in records {
        if record.workspace == setup.workspace.as_str() {
            names.insert(record.machine.clone());
        } else if config::exists(&setup.workspace, &record.machine)
            && let Some(domain) = host.find(&record.machine)?
            && ownership::is_ours(&setup.workspace, record, domain.id)
        {
            ownership::try_record_move(&setup.workspace, host, &record.machine);
            names.insert(record.machine.clone());
        }
    }
    Ok(names)
}

/// Returns whether a volume written at `then` is old enough. A time in the future comes from a clock that was wrong.
fn is_settled(now: u64, then: u64) -> bool {
    now.abs_diff(then) > SETTLED
}

/// Returns the base images among `volumes` that no recorded build and no other volume has as its backing file.
fn unused_bases(volumes: &[String], records: &[Metadata], backing: &BTreeMap<String, String>) -> Vec<String> {
    let recorded = records.iter().flat_map(|record| record.generations.all()).map(|build| &build.base);
    let used: BTreeSet<&String> = recorded.chain(backing.values()).collect();
    volumes.iter().filter(|volume| is_base_volume(volume) && !used.contains(volume)).cloned().collect()
}

/// Deletes those of `agreed` that still nothing needs, and returns them. Every machine is locked meanwhile.
///
/// # Errors
/// Another command works on a machine: nothing was deleted. Where a later deletion fails, the earlier ones stay done.
pub fn clean(setup: &Setup, agreed: &[Garbage], watch: &dyn Watch) -> Result<Vec<Garbage>> {
    let host = setup.hypervisor()?;
    let pool = open_pool(setup, &host)?;
    let locked = lock(setup, &host, agreed, watch)?;
    let still = |item: &Garbage, found: &[Garbage]| found.iter().any(|other| other.is(item));
    let before = survey(setup, &host, &pool)?;
    let mut deleted = Vec::new();
    for work in &locked {
        let mut numbers = Vec::new();
        for item in agreed.iter().filter(|item| still(item, &before)) {
            if let Garbage::Generation { machine, number, .. } = item
                && *machine == work.name
            {
                numbers.push(*number);
                deleted.push(item.clone());
            }
        }
        remove(work, &numbers)?;
    }
    // Again: the bases of those generations may be free now, or may have found another user.
    let now = survey(setup, &host, &pool)?;
    let records = host.records()?;
    let is_gone = |name: &MachineName| {
        let has_domain = records.iter().any(|record| record.machine == *name);
        !has_domain && !config::exists(&setup.workspace, name)
    };
    let is_lock = |path: &Path| path.parent() == Some(&setup.workspace.work_dir());
    for item in agreed {
        match item {
            Garbage::Generation { .. } => continue,
            // This process holds the lock, and removes it at the end.
            Garbage::Files { machine, path, .. } if is_lock(path) && is_gone(machine) => {}
            item if !still(item, &now) => continue,
            Garbage::Base { volume, .. } => {
                let condemned = pool.condemn(volume)?;
                let found =
                    unused_bases(std::slice::from_ref(volume), &host.records()?, &pool.backing_of_all()?);
                if found.is_empty() || !condemned.delete()? {
                    continue;
                }
            }
            Garbage::OutLink { path } => drop(file::remove(path)?),
            Garbage::Files { machine, path, .. } => {
                if *path == setup.workspace.rendered_dir().join(machine.as_str()) {
                    render::remove(&setup.workspace.rendered_dir(), machine)?;
                } else if path.is_dir() {
                    file::remove_folder(path)?;
                } else {
                    file::remove(path)?;
                }
            }
        }
        deleted.push(item.clone());
    }
    for work in locked.into_iter().filter(|work| is_gone(&work.name)) {
        work.end_of_machine()?;
    }
    let bytes: u64 = deleted.iter().filter_map(Garbage::bytes).sum();
    watch.done(&format!("Deleted {} item(s) and freed {} MiB", deleted.len(), bytes >> 20));
    Ok(deleted)
}

/// Locks every machine of the workspace that is in this pool, and those in `agreed` that no longer exist.
fn lock<'a>(
    setup: &'a Setup,
    host: &Hypervisor,
    agreed: &[Garbage],
    watch: &'a dyn Watch,
) -> Result<Vec<Work<'a>>> {
    let mut names: BTreeSet<MachineName> = config::list(&setup.workspace)?.into_iter().collect();
    names.extend(ours(setup, host, &host.records()?)?);
    names.extend(agreed.iter().filter_map(|item| match item {
        Garbage::Generation { machine, .. } | Garbage::Files { machine, .. } => Some(machine.clone()),
        Garbage::Base { .. } | Garbage::OutLink { .. } => None,
    }));
    let mut locked = Vec::new();
    for name in names.iter().filter(|name| is_here(setup, host, name)) {
        // Another workspace has a domain of the name of a machine that is only declared here.
        let other = host.find(name)?.is_some_and(|found| {
            found.metadata.is_some_and(|recorded| !ownership::is_ours(&setup.workspace, &recorded, found.id))
        });
        if !other {
            locked.push(Work::begin(setup, name, "clean", watch)?);
        }
    }
    Ok(locked)
}

/// Returns whether a machine's disks are in this pool, as far as anything says.
fn is_here(setup: &Setup, host: &Hypervisor, name: &MachineName) -> bool {
    let place = config::place(&setup.workspace, name).unwrap_or_default();
    let pool = place.pool.or_else(|| pool_of(host, name).ok().flatten());
    pool.is_none_or(|pool| pool == setup.pool) && place.libvirt.is_none_or(|libvirt| setup.is_at(&libvirt))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::tests::build;
    use crate::model::record::{Build, Generations};

    #[test]
    fn a_base_that_anything_refers_to_stays() {
        let base = |letter: &str| format!("nixvm-base-{}.qcow2", letter.repeat(32));
        let record = Metadata {
            machine: "web".parse().unwrap(),
            workspace: "/another".into(),
            stem: "web".parse().unwrap(),
            ssh_port: None,
            generations: Generations::first(Build { base: base("a"), ..build(1) }),
            snapshots: Vec::new(),
        };
        let volumes = [base("a"), base("b"), base("c"), "notes.qcow2".into(), "web.data-1.qcow2".into()];
        let backing = [("left.boot-7.qcow2".to_owned(), base("b"))].into();
        assert_eq!(unused_bases(&volumes, &[record], &backing), [base("c")]);
        assert_eq!(unused_bases(&volumes, &[], &BTreeMap::new()).len(), 3);
    }

    #[test]
    fn a_base_of_a_wrong_clock_is_no_new_one_for_ever() {
        let now = 1_795_811_288;
        for (then, settled) in
            [(now, false), (now - 3600, false), (now + 60, false), (now - 3601, true), (0, true)]
        {
            assert_eq!(is_settled(now, then), settled, "{then}");
        }
        assert!(is_settled(now, now + 10 * 365 * 86400));
    }

    #[test]
    fn what_was_agreed_to_is_known_again_whatever_it_takes_by_now() {
        let base = |volume: &str, bytes| Garbage::Base { volume: volume.into(), bytes };
        assert!(base("a", 1).is(&base("a", 2)));
        assert!(!base("a", 1).is(&base("b", 1)));
        let link = Garbage::OutLink { path: "/a".into() };
        assert!(link.is(&link.clone()) && !link.is(&base("/a", 1)));
    }
}
