//! The export: its steps, and the folder that they fill.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::backup::State;
use crate::config;
use crate::disks::layer_of;
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::host::{Setup, Watch, exposure, moved};
use crate::hypervisor::{BackupRequest, Owned};
use crate::model::MachineName;
use crate::model::volume::Role;
use crate::storage::{Format, Pool};
use crate::work::{Work, steps};

use super::boot::{Images, script};
use super::plan::{Facts, Step, plan};

/// The script that boots the images.
const SCRIPT: &str = "boot.sh";

#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    pub machine: MachineName,
    #[serde(serialize_with = "crate::model::path::text")]
    pub folder: PathBuf,
    pub format: Format,
    pub state: State,
    /// Milliseconds that the guest's file systems were frozen; `None` where they did not have to be or could not.
    pub frozen_ms: Option<u64>,
    pub disks: Vec<ExportedDisk>,
    pub seconds: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct ExportedDisk {
    pub file: String,
    /// The serial number by which the guest finds the disk.
    pub serial: &'static str,
    /// Bytes that the file takes.
    pub bytes: u64,
}

/// Writes a machine's disks into the new folder `folder`, as images of that format.
///
/// # Errors
/// There is something at `folder` already, or a disk cannot be copied: nothing is left at `folder` then.
pub fn export(
    setup: &Setup,
    name: &MachineName,
    (folder, format): (&Path, Format),
    watch: &dyn Watch,
) -> Result<Exported> {
    let began = Instant::now();
    let work = Work::begin(setup, name, "export", watch)?;
    let domain = work.domain()?;
    let machine = config::load(&setup.workspace, name)?;
    require_outside(setup, folder)?;
    require_free(folder)?;
    let parent = folder.parent().unwrap_or(Path::new("/"));
    file::create_private_folder(parent)?;
    let pool = work.pool()?;
    exposure::warn(setup, name, "the data", watch);
    let facts = facts(&domain)?;
    require_space(&pool, &facts, parent)?;

    let filled = file::private_folder_in(parent)?;
    let images = Images::of(format);
    let image = |name: &str| filled.path().join(name);
    let (mut state, mut frozen) = (State::Off, None);
    work.carry_out(&plan(&facts), |step| match step {
        Step::Copy(volume) => {
            frozen = copy(&work, (&pool, &domain), volume, &facts.data)?;
            state = if frozen.is_some() { State::Frozen } else { State::Running };
            Ok(())
        }
        Step::Data(volume) => {
            watch.step(&format!("Writing the data of {name} to {}", images.data));
            let unchanged = facts.copy.is_none().then(|| pool.stamp(volume)).transpose()?;
            if unchanged.is_some() {
                // After the stamp: what writes from now on is noticed.
                work.require_off(&domain)?;
            }
            let written = pool.flatten(volume, (&image(&images.data), format), &mut moved(watch));
            match unchanged {
                // Also where that made the copy fail in another way, as a file that became longer does.
                Some(stamp) if pool.stamp(volume)? != stamp => Err(written_meanwhile(name).into()),
                _ => written,
            }
        }
        Step::Delete(volume) => pool.delete(volume).map(drop),
        Step::System(volume) => {
            watch.step(&format!("Writing the system of {name} to {}", images.system));
            pool.flatten(volume, (&image(&images.system), format), &mut moved(watch))
        }
        Step::Finish => {
            file::replace(&image(&images.identity), steps::identity(&machine)?)?;
            write_script(&image(SCRIPT), &script(&machine, work.host.arch()?, format))?;
            if folder.starts_with(setup.workspace.output_dir()) {
                // Another folder may belong to somebody who must not read the machine's secrets.
                file::give_folder_to_owner(filled.path())?;
            }
            require_free(folder)?;
            fs::rename(filled.path(), folder).explain(|| cannot_place(folder))?;
            file::sync_folder(parent)
        }
    })?;
    watch.done(&format!("Exported {name} to {}", folder.display()));
    Ok(Exported {
        machine: name.clone(),
        folder: folder.to_owned(),
        format,
        state,
        frozen_ms: frozen.map(|stood| u64::try_from(stood.as_millis()).unwrap_or(u64::MAX)),
        disks: disks(folder, &images),
        seconds: began.elapsed().as_secs_f64(),
    })
}

fn facts(domain: &Owned) -> Result<Facts> {
    let metadata = domain.metadata();
    let volume = |role: Role| role.of(&metadata.stem);
    Ok(Facts {
        boot: volume(Role::Boot(metadata.current().number)),
        data: volume(Role::Data(layer_of(domain)?)),
        copy: domain.state()?.is_active().then(|| volume(Role::Backup)),
    })
}

/// Checks that the folder can take the images, and beside each, while it is made, the volumes that it is made of.
fn require_space(pool: &Pool, facts: &Facts, folder: &Path) -> Result<()> {
    let size =
        |volume: &str| -> Result<u64> { Ok(pool.chain(volume)?.iter().map(|link| link.allocation).sum()) };
    let [system, data] = [size(&facts.boot)?, size(&facts.data)?];
    file::require_space(folder, system + data + system.max(data), "the images", "--output DIR")
}

/// Has QEMU copy the data of a running machine into the volume; returns for how long its guest was frozen.
fn copy(work: &Work, (pool, domain): (&Pool, &Owned), volume: &str, top: &str) -> Result<Option<Duration>> {
    work.watch.step(&format!("Copying the data of {}", work.name));
    // A volume of this name is left from an interrupted copy.
    pool.delete(volume)?;
    let [_, path] = pool.blank_for(volume, top, true)?;
    let request = BackupRequest { path: &path, since: None, checkpoint: None };
    domain.backup_data(request, &mut moved(work.watch))
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    file::replace(path, text)?;
    let executable = fs::set_permissions(path, Permissions::from_mode(0o700));
    executable.explain(|| Failure::user(format!("cannot make {} a program", path.display())))
}

fn disks(folder: &Path, images: &Images) -> Vec<ExportedDisk> {
    let disk = |(file, serial): (&str, &'static str)| {
        let bytes = fs::metadata(folder.join(file)).map_or(0, |metadata| metadata.blocks() * 512);
        ExportedDisk { file: file.to_owned(), serial, bytes }
    };
    images.serials().into_iter().map(disk).collect()
}

/// Checks that Nix would not copy the images to its store, where every local user could read them, with the next build.
fn require_outside(setup: &Setup, folder: &Path) -> Result<()> {
    let workspace = &setup.workspace;
    // Whatever links and `..` are on the way.
    let place = folder.ancestors().find_map(|above| above.canonicalize().ok()).unwrap_or_default();
    if !place.starts_with(workspace.root()) || place.starts_with(workspace.output_dir()) {
        return Ok(());
    }
    Err(Failure::user(format!(
        "{} is in the workspace, and builds copy that to the Nix store, which every local user can read",
        folder.display()
    ))
    .hint("name a folder elsewhere, or below output/, which no build copies")
    .into())
}

/// An export replaces nothing.
fn require_free(folder: &Path) -> Result<()> {
    if fs::symlink_metadata(folder).is_err() {
        return Ok(());
    }
    Err(Failure::user(format!("there is something at {} already; nothing was changed", folder.display()))
        .hint("delete it, or name another folder with `--output DIR`")
        .into())
}

fn cannot_place(folder: &Path) -> Failure {
    Failure::user(format!("cannot put the images at {}", folder.display()))
}

fn written_meanwhile(machine: &MachineName) -> Failure {
    Failure::user(format!("the data disk of {machine} was written while it was copied; nothing was exported"))
        .hint("another program started the machine; run the command again: a running machine can be exported")
}
