//! The backup: its steps, and the archive that they write.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::backup::{self, About, ArchiveSource, Parent, State, Written, machine_files};
use crate::config;
use crate::disks::{layer_of, nvram};
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::host::{Setup, Watch, exposure, moved};
use crate::hypervisor::{Owned, Paused};
use crate::interrupt;
use crate::model::volume::Role;
use crate::model::{Machine, MachineName, Progress, Timestamp};
use crate::storage::{Pool, VolumeReader};
use crate::work::Work;

use super::plan::{Facts, Step, plan};
use super::series::Series;

/// Bytes beside the data that an archive may need: the machine's files and its manifest.
const BESIDE_DATA: u64 = 8 << 20;

#[derive(Debug, Clone, Serialize)]
pub struct BackedUp {
    pub machine: MachineName,
    #[serde(serialize_with = "crate::model::path::text")]
    pub file: PathBuf,
    pub bytes: u64,
    /// Uncompressed.
    pub data_bytes: u64,
    pub state: State,
    pub parent: Option<String>,
    /// Milliseconds that the guest's file systems were frozen; `None` where they did not have to be or could not.
    pub frozen_ms: Option<u64>,
    pub seconds: f64,
}

/// Backs a machine up into a folder; with `incremental`, only what changed since the last archive there, where QEMU knows it.
///
/// # Errors
/// Where the data cannot be copied or the archive not be written, no archive is left.
pub fn backup(
    setup: &Setup,
    name: &MachineName,
    folder: &Path,
    incremental: bool,
    watch: &dyn Watch,
) -> Result<BackedUp> {
    let began = Instant::now();
    let work = Work::begin(setup, name, "backup", watch)?;
    let domain = work.domain()?;
    let machine = config::load(&setup.workspace, name)?;
    file::create_private_folder(folder)?;
    let pool = work.pool()?;
    let series = incremental.then(|| Series::find(folder, &machine, &domain)).transpose()?;
    if let Some(Series { parent: None, .. }) = &series {
        watch.note(&format!("{name} has no backup in {} to add to; this is a full one", folder.display()));
    }
    exposure::warn(setup, name, "the data", watch);
    let facts = facts(&pool, &domain, incremental)?;

    let mut job =
        Job { work: &work, pool: &pool, domain: &domain, machine: &machine, folder, series, paused: None };
    let (mut taken, mut written) = (None, None);
    let done = work.carry_out(&plan(&facts), |step| match step {
        Step::Copy(volume) => job.copy(volume, &facts.top).map(|copy| taken = Some(copy)),
        Step::Archive(volume) => {
            let copy = taken.as_ref().ok_or_else(|| Failure::bug("there is no copy to archive"))?;
            job.archive(volume, copy, || pool.reader(volume)).map(|archive| written = Some(archive))
        }
        Step::ArchiveInPlace(volume) => {
            let (disk, archive) = job.archive_in_place(volume)?;
            (taken, written) = (Some(disk), Some(archive));
            Ok(())
        }
        Step::Delete(volume) => pool.delete(volume).map(drop),
        Step::Checkpoints => match (&job.series, &taken) {
            (Some(series), Some(copy)) => series.sweep(&domain, copy.checkpoint.as_ref()),
            _ => Ok(()),
        },
    });
    if let (Err(_), Some(checkpoint), None) =
        (&done, taken.as_ref().and_then(|copy| copy.checkpoint.as_ref()), &written)
    {
        // No archive refers to it. If this fails, the next incremental backup deletes it.
        let _ = domain.delete_checkpoint(checkpoint);
    }
    drop(job);
    done?;
    let (taken, (written, data_bytes)) =
        taken.zip(written).ok_or_else(|| Failure::bug("a backup without an archive"))?;
    let archive = folder.join(written.name.to_string());
    if folder == setup.workspace.backups_dir() {
        // Another folder may belong to somebody who must not read the machine's secrets.
        file::give_to_owner(&archive)?;
    }
    // `restore-backup` recognises the archive by this, wherever it is by then.
    let made = setup.workspace.made_archives_dir().join(written.manifest.to_string());
    if let Err(error) = file::write(&made, "") {
        watch.note(&format!("`restore-backup` will ask whether you trust this archive: {error:#}"));
    }
    let bytes = std::fs::metadata(&archive).map_or(0, |metadata| metadata.len());
    watch.done(&format!("Backed {name} up to {}", archive.display()));
    Ok(BackedUp {
        machine: name.clone(),
        file: archive,
        bytes,
        data_bytes,
        state: taken.state,
        parent: taken.parent.map(|parent| parent.archive.to_string()),
        frozen_ms: taken.frozen.map(|stood| u64::try_from(stood.as_millis()).unwrap_or(u64::MAX)),
        seconds: began.elapsed().as_secs_f64(),
    })
}

fn facts(pool: &Pool, domain: &Owned, incremental: bool) -> Result<Facts> {
    let stem = &domain.metadata().stem;
    let top = Role::Data(layer_of(domain)?).of(stem);
    let running = domain.state()?.is_active();
    let compact = !running && !incremental && pool.is_compact(&top)?;
    Ok(Facts { copy: Role::Backup.of(stem), top, running, compact, incremental })
}

/// The data at one instant, wherever it is.
pub(super) struct Captured {
    pub(super) created: Timestamp,
    pub(super) state: State,
    pub(super) parent: Option<Parent>,
    pub(super) checkpoint: Option<String>,
    pub(super) frozen: Option<Duration>,
}

impl Captured {
    /// The data of a machine that is off, as it is now.
    pub(super) fn off() -> Self {
        Captured {
            created: Timestamp::now(),
            state: State::Off,
            parent: None,
            checkpoint: None,
            frozen: None,
        }
    }
}

pub(super) struct Job<'a> {
    pub(super) work: &'a Work<'a>,
    pub(super) pool: &'a Pool,
    pub(super) domain: &'a Owned,
    pub(super) machine: &'a Machine,
    pub(super) folder: &'a Path,
    pub(super) series: Option<Series>,
    /// The QEMU of a machine that is off, which runs for the backup alone.
    pub(super) paused: Option<Paused<'a>>,
}

impl Job<'_> {
    /// Writes the archive of a machine that is off, its data straight from its own volume.
    fn archive_in_place(&self, volume: &str) -> Result<(Captured, (Written, u64))> {
        // In this order: a write after the stamp is noticed, and one before it has ended.
        let stamp = self.pool.stamp(volume)?;
        self.work.require_off(self.domain)?;
        let taken = Captured::off();
        let written = self.archive(volume, &taken, || self.pool.still_reader(volume, stamp.clone()));
        match written {
            // Also where the write made the read fail in another way, as a file that became longer does.
            Err(error) if self.pool.stamp(volume).is_ok_and(|now| now != stamp) => {
                interrupt::check()?;
                Err(error).explain(|| written_meanwhile(&self.machine.name))
            }
            written => Ok((taken, written?)),
        }
    }

    /// Writes the archive and returns it with the number of bytes of data in it.
    fn archive(
        &self,
        volume: &str,
        taken: &Captured,
        open: impl FnOnce() -> Result<VolumeReader>,
    ) -> Result<(Written, u64)> {
        let name = &self.machine.name;
        self.work.watch.step(&format!("Writing the archive of {name}"));
        let nvram = nvram::present(self.pool, &self.domain.metadata().stem)?;
        let files = machine_files(&self.work.setup.workspace.machine_dir(name))?;
        let used = self.pool.usage(volume)?.map_or(0, |usage| usage.allocation);
        let nvram_bytes = nvram.as_ref().map_or(0, |nvram| nvram.len() as u64);
        // Even if it does not compress at all.
        file::require_space(self.folder, used + nvram_bytes + BESIDE_DATA, "the archive", "--to DIR")?;
        let build = self.domain.metadata().current();
        let about = About {
            machine: name.clone(),
            profile: build.profile.clone(),
            machine_id: self.machine.machine_id,
            created: taken.created,
            nixvm: env!("CARGO_PKG_VERSION").to_owned(),
            generation: build.generation(),
            nixpkgs_revision: build.nixpkgs.clone(),
            state: taken.state,
            parent: taken.parent.clone(),
            checkpoint: taken.checkpoint.clone(),
        };
        let mut data = open()?;
        let data_size = data.length();
        let source = ArchiveSource { files, data: &mut data, data_size, nvram: nvram.as_deref() };
        let mut shown = moved(self.work.watch);
        let written = backup::write(self.folder, &about, source, &mut |progress| {
            shown(Progress { done: progress.done, total: progress.total })
        })?;
        Ok((written, data_size))
    }
}

fn written_meanwhile(machine: &MachineName) -> Failure {
    Failure::user(format!(
        "the data disk of {machine} was written while it was archived; no archive was made"
    ))
    .hint("another program started the machine; run the command again: a running machine can be backed up")
}
