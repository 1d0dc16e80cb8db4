//! `generations`: lists a machine's builds in the pool, and deletes old ones with `--keep`.

use serde::Serialize;

use crate::error::Result;
use crate::host::{Setup, Watch, open_pool};
use crate::model::MachineName;
use crate::model::record::Build;
use crate::model::volume::Role;
use crate::work::Work;
use crate::work::generations::{remove, running, superfluous};

#[derive(Debug, Clone, Serialize)]
pub struct ListedGeneration {
    #[serde(flatten)]
    pub build: Build,
    /// Whether the machine's next start boots it.
    pub current: bool,
    pub running: bool,
    pub volume: String,
    /// Bytes that its boot disk takes in the pool; `None` where it is missing.
    pub bytes: Option<u64>,
}

/// Which generations a machine is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runs {
    /// `None` while it is off.
    pub now: Option<u32>,
    /// That of its next start.
    pub next: u32,
}

pub fn runs(setup: &Setup, name: &MachineName) -> Result<Runs> {
    let domain = setup.hypervisor()?.see(name)?;
    Ok(Runs { now: running(&domain)?, next: domain.metadata().current().number })
}

pub fn generations(setup: &Setup, name: &MachineName) -> Result<Vec<ListedGeneration>> {
    let host = setup.hypervisor()?;
    let domain = host.see(name)?;
    let (metadata, running) = (domain.metadata(), running(&domain)?);
    let pool = open_pool(setup, &host)?;
    let list = |build: &Build| {
        let volume = Role::Boot(build.number).of(&metadata.stem);
        Ok(ListedGeneration {
            build: build.clone(),
            current: build.number == metadata.current().number,
            running: Some(build.number) == running,
            bytes: pool.usage(&volume)?.map(|usage| usage.allocation),
            volume,
        })
    };
    metadata.generations.all().iter().map(list).collect()
}

/// Removes the generations of a machine beyond the last `keep`, except those that are needed, and returns their numbers.
///
/// # Errors
/// Where a removal fails, the same command completes the work.
pub fn keep_generations(
    setup: &Setup,
    name: &MachineName,
    keep: usize,
    watch: &dyn Watch,
) -> Result<Vec<u32>> {
    let work = Work::begin(setup, name, "generations", watch)?;
    let domain = work.domain()?;
    let numbers = superfluous(domain.metadata(), running(&domain)?, keep);
    remove(&work, &numbers)?;
    match numbers.len() {
        0 => watch.note(&format!("{name} has no generation to remove")),
        1 => watch.done(&format!("Removed 1 generation of {name}")),
        count => watch.done(&format!("Removed {count} generations of {name}")),
    }
    Ok(numbers)
}
