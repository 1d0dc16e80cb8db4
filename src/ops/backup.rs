//! `backup`: a machine's files and data into an archive, while it runs.
//!
//! The data is copied to a volume of the pool first, as it is at one instant: by QEMU where it runs, by libvirt where it is off.
//! From there it is streamed into the archive, and the volume is deleted. Nothing of the machine is changed, but for the
//! checkpoint that an incremental backup leaves: its instant has a name, and QEMU notes what is written from then on.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::backup::{self, About, Archive, Parent, Source, State, Written, machine_files};
use crate::config;
use crate::error::{Failure, Result};
use crate::file;
use crate::hypervisor::{BackupRequest, Owned, Paused};
use crate::interrupt;
use crate::model::volume::Role;
use crate::model::{Generation, Machine, MachineName, Moment, Progress};
use crate::storage::Pool;

use super::accelerator::accelerator;
use super::archives::{self, LONGEST_CHAIN};
use super::deploy::{self, moved};
use super::work::{Step as Plan, Work};
use super::{Setup, Watch};

/// Most bytes of firmware variables that are taken for such; OVMF's have 528 KiB.
const LARGEST_NVRAM: u64 = 64 << 20;

/// Bytes beside the data that an archive may need: the machine's files and its manifest.
const BESIDE_DATA: u64 = 8 << 20;

/// A backup that was made.
#[derive(Debug, Clone, Serialize)]
pub struct BackedUp {
    /// The machine.
    pub machine: MachineName,
    /// The archive.
    pub file: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Bytes of the data in it, uncompressed.
    pub data_bytes: u64,
    /// What the machine did meanwhile.
    pub state: State,
    /// The archive that it adds to.
    pub parent: Option<String>,
    /// Milliseconds that the guest's file systems stood still; `None` where they did not have to or could not.
    pub frozen_ms: Option<u64>,
    /// Seconds that it took.
    pub seconds: f64,
}

/// What a backup does.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Copy(String),
    Archive(String),
    Delete(String),
    Checkpoints,
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Copy(_) => "copy the data as it is at one instant".into(),
            Step::Archive(_) => "write the archive".into(),
            Step::Delete(_) => "delete the copy".into(),
            Step::Checkpoints => "delete checkpoints that no backup begins from any more".into(),
        }
    }

    fn volumes(&self) -> Vec<String> {
        match self {
            Step::Copy(volume) => vec![volume.clone()],
            Step::Archive(_) | Step::Delete(_) | Step::Checkpoints => Vec::new(),
        }
    }
}

/// Returns the steps of a backup through that volume.
fn plan(volume: &str, incremental: bool) -> Vec<Step> {
    let mut steps = vec![
        Step::Copy(volume.to_owned()),
        Step::Archive(volume.to_owned()),
        Step::Delete(volume.to_owned()),
    ];
    if incremental {
        // Last: until the new archive is there, the old checkpoint is what the next one could begin from.
        steps.push(Step::Checkpoints);
    }
    steps
}

/// Backs a machine up into a folder; only what changed since the last archive there, if `incremental` and it can be told.
///
/// # Errors
/// There is no such machine, its files are not valid, there is no space for the copy or the archive, or the data cannot be
/// read; no archive is left then.
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
    let volume = Role::Backup.of(&domain.metadata().stem);
    let series = incremental.then(|| Series::find(folder, &machine, &domain)).transpose()?;
    if let Some(Series { parent: None, .. }) = &series {
        watch.note(&format!("{name} has no backup in {} to add to; this is a full one", folder.display()));
    }

    let mut job =
        Job { work: &work, pool: &pool, domain: &domain, machine: &machine, folder, series, paused: None };
    let (mut copied, mut written) = (None, None);
    let done = work.carry_out(&plan(&volume, incremental), |step| match step {
        Step::Copy(volume) => job.copy(volume).map(|copy| copied = Some(copy)),
        Step::Archive(volume) => {
            let copy = copied.as_ref().ok_or_else(|| Failure::bug("there is no copy to archive"))?;
            job.archive(volume, copy).map(|archive| written = Some(archive))
        }
        Step::Delete(volume) => pool.delete(volume).map(drop),
        Step::Checkpoints => job.sweep(copied.as_ref()),
    });
    if let (Err(_), Some(checkpoint), None) =
        (&done, copied.as_ref().and_then(|copy| copy.checkpoint.as_ref()), &written)
    {
        // No archive knows it. If this fails, the next incremental backup does it.
        let _ = domain.delete_checkpoint(checkpoint);
    }
    drop(job);
    done?;
    let (copy, (written, data_bytes)) =
        copied.zip(written).ok_or_else(|| Failure::bug("a backup without an archive"))?;
    let file = folder.join(written.name.to_string());
    let bytes = std::fs::metadata(&file).map_or(0, |metadata| metadata.len());
    watch.done(&format!("Backed {name} up to {}", file.display()));
    Ok(BackedUp {
        machine: name.clone(),
        file,
        bytes,
        data_bytes,
        state: copy.state,
        parent: copy.parent.map(|parent| parent.archive.to_string()),
        frozen_ms: copy.frozen.map(|stood| u64::try_from(stood.as_millis()).unwrap_or(u64::MAX)),
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// The incremental backups of a machine in one folder.
struct Series {
    /// How the names of its checkpoints begin: each folder has its own, so that backups to two of them do not meet.
    prefix: String,
    /// The newest archive whose checkpoint the domain has, and that checkpoint.
    parent: Option<(Parent, String)>,
}

impl Series {
    fn find(folder: &Path, machine: &Machine, domain: &Owned) -> Result<Self> {
        let place = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let digest = Sha256::digest(place.as_os_str().as_encoded_bytes());
        let prefix = format!("nixvm-{}-", &format!("{digest:x}")[..8]);
        let checkpoints = domain.checkpoints()?;
        let mut archives = backup::list(folder, Some(&machine.name))?;
        archives.reverse();
        let parent = archives.into_iter().find_map(|name| {
            let path = folder.join(name.to_string());
            let archive = Archive::open(&path).ok()?;
            let about = &archive.manifest().about;
            let checkpoint =
                about.checkpoint.clone().filter(|checkpoint| checkpoints.contains(checkpoint))?;
            if about.machine_id != machine.machine_id {
                return None;
            }
            Some((Parent { archive: name, manifest: archive.checksum() }, checkpoint, path))
        });
        // One that cannot be restored itself, or only just, is no beginning.
        let sound = |path: &Path| archives::chain(path).is_ok_and(|chain| chain.len() < LONGEST_CHAIN);
        let parent =
            parent.filter(|(.., path)| sound(path)).map(|(parent, checkpoint, _)| (parent, checkpoint));
        Ok(Series { prefix, parent })
    }
}

/// The data at one instant, in a volume of its own.
struct Copy {
    created: Moment,
    state: State,
    parent: Option<Parent>,
    checkpoint: Option<String>,
    frozen: Option<Duration>,
}

/// A backup on its way.
struct Job<'a> {
    work: &'a Work<'a>,
    pool: &'a Pool,
    domain: &'a Owned,
    machine: &'a Machine,
    folder: &'a Path,
    series: Option<Series>,
    /// QEMU, where it runs for the backup alone.
    paused: Option<Paused<'a>>,
}

impl Job<'_> {
    /// Copies the data disk as it is now to a new volume.
    fn copy(&mut self, volume: &str) -> Result<Copy> {
        self.work.watch.step(&format!("Copying the data of {}", self.machine.name));
        // What lies there is a copy that was cut short.
        self.pool.delete(volume)?;
        let top = Role::Data(deploy::layer_of(self.domain)?).of(&self.domain.metadata().stem);
        let running = self.domain.state()?.is_active();
        if !running && self.series.is_none() {
            let created = Moment::now();
            self.duplicate(volume, &top)?;
            return Ok(Copy { created, state: State::Off, parent: None, checkpoint: None, frozen: None });
        }
        if !running {
            // Only QEMU knows what has changed; its guest does not run.
            self.paused = Some(self.domain.paused()?);
        }
        let copy = match self.series.as_ref().and_then(|series| series.parent.clone()) {
            None => self.push(volume, &top, None)?,
            Some(parent) => self.push(volume, &top, Some(parent)).or_else(|error| {
                interrupt::check()?;
                self.work.watch.note(&format!(
                    "what changed since the last backup of {} cannot be told ({error:#}); this is a full one",
                    self.machine.name
                ));
                self.pool.delete(volume)?;
                self.push(volume, &top, None)
            })?,
        };
        Ok(Copy { state: if running { copy.state } else { State::Off }, ..copy })
    }

    /// Copies the data of a machine that is off.
    fn duplicate(&self, volume: &str, top: &str) -> Result<()> {
        let Work { setup, host, watch, .. } = self.work;
        let [from, to] = self.target(volume, top, true)?;
        let accelerator = accelerator(setup, host, *watch)?;
        host.copy_image(accelerator, &from, &to, &mut moved(*watch))
    }

    /// Makes the empty volume for a copy of the data under `top`; returns the paths of both on the hypervisor.
    fn target(&self, volume: &str, top: &str, whole: bool) -> Result<[String; 2]> {
        let chain = self.pool.chain(top)?;
        if whole {
            self.pool
                .require_space(chain.iter().map(|link| link.allocation).sum(), "the copy of its data")?;
        }
        self.pool.blank(volume, chain.first().map_or(0, |link| link.capacity))?;
        let folder = self.pool.path()?;
        Ok([top, volume].map(|name| format!("{folder}/{name}")))
    }

    /// Has QEMU copy the data, or what changed since the parent's checkpoint.
    fn push(&self, volume: &str, top: &str, parent: Option<(Parent, String)>) -> Result<Copy> {
        let [_, path] = self.target(volume, top, parent.is_none())?;
        let created = Moment::now();
        let checkpoint = self.series.as_ref().map(|series| format!("{}{created}", series.prefix));
        if let Some(checkpoint) = &checkpoint {
            // Of this very second, and so of a try that failed.
            self.domain.delete_checkpoint(checkpoint)?;
        }
        let since = parent.as_ref().map(|(_, checkpoint)| checkpoint.as_str());
        let request = BackupRequest { path: &path, since, checkpoint: checkpoint.as_deref() };
        let frozen = self.domain.backup_data(request, &mut moved(self.work.watch));
        if let (Err(_), Some(checkpoint)) = (&frozen, &checkpoint) {
            let _ = self.domain.delete_checkpoint(checkpoint);
        }
        let frozen = frozen?;
        let state = if frozen.is_some() { State::Frozen } else { State::Running };
        Ok(Copy { created, state, parent: parent.map(|(parent, _)| parent), checkpoint, frozen })
    }

    /// Writes the archive and returns it with the number of bytes of data in it.
    fn archive(&self, volume: &str, copy: &Copy) -> Result<(Written, u64)> {
        let name = &self.machine.name;
        self.work.watch.step(&format!("Writing the archive of {name}"));
        let nvram = self.nvram()?;
        let files = machine_files(&self.work.setup.workspace.machine_dir(name))?;
        let used = self.pool.usage(volume)?.map_or(0, |usage| usage.allocation);
        require_space(
            self.folder,
            used + nvram.as_ref().map_or(0, |nvram| nvram.len() as u64) + BESIDE_DATA,
        )?;
        let build = self.domain.metadata().current();
        let about = About {
            machine: name.clone(),
            profile: build.profile.clone(),
            machine_id: self.machine.machine_id,
            created: copy.created,
            nixvm: env!("CARGO_PKG_VERSION").to_owned(),
            generation: Generation { number: build.number, digest: build.digest.clone() },
            nixpkgs_revision: build.nixpkgs.clone(),
            state: copy.state,
            parent: copy.parent.clone(),
            checkpoint: copy.checkpoint.clone(),
        };
        let data = self.pool.reader(volume)?;
        let data_size = data.length();
        // libvirt's messages have up to 256 KiB, and each call of it has its price.
        let mut data = BufReader::with_capacity(256 << 10, data);
        let source = Source { files, data: &mut data, data_size, nvram: nvram.as_deref() };
        let mut shown = moved(self.work.watch);
        let written = backup::write(self.folder, &about, source, &mut |progress| {
            shown(Progress { done: progress.done, total: progress.total })
        })?;
        Ok((written, data_size))
    }

    /// Returns the variables of the machine's firmware; it has none before its first start.
    fn nvram(&self) -> Result<Option<Vec<u8>>> {
        use std::io::Read as _;
        let volume = Role::Nvram.of(&self.domain.metadata().stem);
        if self.pool.usage(&volume)?.is_none() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        self.pool.reader(&volume)?.take(LARGEST_NVRAM).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Deletes the checkpoints of this folder's backups but for the new one.
    fn sweep(&self, copy: Option<&Copy>) -> Result<()> {
        let Some((series, copy)) = self.series.as_ref().zip(copy) else { return Ok(()) };
        let parent = series.parent.as_ref().map(|(_, checkpoint)| checkpoint);
        for checkpoint in self.domain.checkpoints()? {
            let of_series = checkpoint.starts_with(&series.prefix) || Some(&checkpoint) == parent;
            if of_series && Some(&checkpoint) != copy.checkpoint.as_ref() {
                self.domain.delete_checkpoint(&checkpoint)?;
            }
        }
        Ok(())
    }
}

/// Checks that an archive of that much data fits into a folder, even if nothing of it can be compressed.
fn require_space(folder: &Path, bytes: u64) -> Result<()> {
    let free = file::free_space(folder)?;
    if bytes <= free {
        return Ok(());
    }
    let [need, have] = [bytes, free].map(|bytes| bytes.div_ceil(1 << 20));
    Err(Failure::user(format!(
        "{} may have no space for the archive: it can take {need} MiB, and {have} MiB are free",
        folder.display()
    ))
    .hint("free space there, or name another folder with `--to DIR`")
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_checkpoint_outlives_the_new_archive_and_the_copy_does_not() {
        let steps = plan("web.backup.qcow2", true);
        let at = |step: &Step| steps.iter().position(|other| other == step).unwrap();
        let volume = || "web.backup.qcow2".to_owned();
        assert!(at(&Step::Archive(volume())) < at(&Step::Checkpoints));
        assert!(steps.contains(&Step::Delete(volume())));
        assert_eq!(steps.iter().flat_map(Step::volumes).collect::<Vec<_>>(), [volume()]);
        assert!(!plan("web.backup.qcow2", false).contains(&Step::Checkpoints));
    }
}
