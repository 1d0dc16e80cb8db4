//! The restoration itself.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::backup::{self, About, Archive, Checksum};
use crate::build::{BuiltMachine, Wanted, build_machine};
use crate::config::{self, ArchivedFile, Brought};
use crate::disks::{free_stem, highest_layer, layer_of, layers, nvram, roots};
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::guest::trial;
use crate::host::{Setup, Watch, exposure, moved};
use crate::hypervisor::{Hypervisor, Owned};
use crate::interrupt;
use crate::journal::Command;
use crate::model::record::Metadata;
use crate::model::volume::Role;
use crate::model::{Machine, MachineName, Size};
use crate::nix;
use crate::render;
use crate::storage::{Incoming, Pool};
use crate::work::Work;
use crate::work::archives::{chain, verify};
use crate::work::power::{on_again, power_on};
use crate::work::shutdown::take_down;
use crate::work::steps::{self, Deploy, Deployment, first_metadata};

use super::plan::{Facts, Step, end_of, plan, top};
use super::trust::{self, Brings, files_of};

#[derive(Debug, Clone)]
pub struct Restore {
    pub file: PathBuf,
    /// That of the archive, or a new machine like it.
    pub name: MachineName,
    /// Whether it is a new machine, with its own identity.
    pub anew: bool,
    /// Whether the archive's files replace those in `machines/NAME`.
    pub files: bool,
    /// The digest of the manifest of the archive whose files may act on this host.
    pub trusted: Option<Checksum>,
    /// How long a running machine may take to shut down. Then its power is cut, because its data is replaced.
    pub limit: Duration,
}

/// The result of `restore-backup`.
#[derive(Debug, Clone, Serialize)]
pub struct RestoredBackup {
    pub machine: MachineName,
    #[serde(serialize_with = "crate::model::path::text")]
    pub file: PathBuf,
    pub generation: u32,
    pub data_volume: String,
    /// Whether `machines/NAME` is the archive's; otherwise it was kept.
    pub files_restored: bool,
    /// The files that act on this host or let somebody in, from an archive that was not made here.
    pub brought: Vec<Brought>,
    /// Whether it runs.
    pub running: bool,
}

/// Restores a machine from an archive.
///
/// After an error before the definition, an existing machine is as it was.
pub fn restore_backup(setup: &Setup, wanted: &Restore, watch: &dyn Watch) -> Result<RestoredBackup> {
    let Restore { file, name, .. } = wanted;
    let chain = chain(file)?;
    let newest = chain.last().ok_or_else(|| Failure::bug("a chain of no archives"))?;
    let about = &newest.manifest().about;
    check_name(wanted, about)?;
    // Another archive is another command.
    let archive = file.file_name().unwrap_or_default().to_string_lossy();
    let command = Command::new("restore-backup", [name.as_str(), &archive]);
    let work = Work::begin_command(setup, name, command, watch)?;
    let domain = work.host.own_if_any(name)?;
    check_place(wanted, domain.as_ref())?;
    verify(&chain, watch)?;

    let files = files_of(newest)?;
    let folder = config::exists(&setup.workspace, name);
    let from_archive = wanted.files || !folder;
    let brings = trust::brings(setup, (name, wanted.files), (file, newest), &files)?;
    if !brings.files.is_empty() && wanted.trusted != Some(brings.archive) {
        return Err(brings.refused());
    }
    let machine = declared(wanted, setup, &files, from_archive, virtual_size(newest))?;
    work.host.check_free(name, machine.machine_id)?;
    work.host.check_mac(name, machine.machine_id, machine.mac)?;
    let built = match &domain {
        Some(_) if !wanted.files => None,
        _ if from_archive => {
            let beside = file::private_folder_in(&setup.workspace.output_dir())?;
            config::unpack_public(beside.path(), &files)?;
            Some(built(setup, &machine, beside.path(), domain.as_ref(), folder, watch)?)
        }
        _ => {
            let beside = setup.workspace.machine_dir(name);
            Some(built(setup, &machine, &beside, domain.as_ref(), folder, watch)?)
        }
    };

    let pool = work.pool()?;
    let metadata = metadata(setup, &work.host, &machine, domain.as_ref(), built.as_ref())?;
    let job = Job { work: &work, pool: &pool, chain: &chain, machine: &machine, metadata: &metadata };
    let facts = job.facts(domain.as_ref(), built.as_ref(), folder)?;
    let (mut steps, mut top) = (plan(&facts), top(&facts));
    let committed = domain.as_ref().map_or(Ok(false), |domain| work.was_committed(domain))?;
    if let Some(domain) = domain.as_ref().filter(|_| committed) {
        top = layer_of(domain)?;
        steps = end_of(steps, top);
    }
    exposure::warn(setup, name, "the data", watch);
    let built = built.as_ref();
    let deployment =
        Deployment { work: &work, pool: &pool, machine: &machine, built, metadata: &metadata, layer: top };
    let done = work.carry_out(&steps, |step| match step {
        Step::Deploy(step) => {
            deployment.take(step)?;
            if matches!(step, Deploy::Boot(_)) { trial::forget(setup, name) } else { Ok(()) }
        }
        Step::Data { archive, volume, on } => job.data(*archive, volume, on.as_deref()),
        Step::NextNvram(volume) => job.nvram(volume),
        Step::PutNvram if committed && is_up(&work)? => Ok(()),
        Step::PutNvram => nvram::put_in_force(&pool, &work.domain()?),
        Step::Files => {
            if from_archive {
                config::unpack(&setup.workspace, &machine, &files)?;
            } else {
                config::save(&setup.workspace, &machine)?;
            }
            steps::refresh_identity(&work, &machine)
        }
        Step::PowerOff => job.power_off(wanted.limit),
        Step::Define(_) if committed => Ok(()),
        Step::Define(_) => deployment.take(&Deploy::Define),
        Step::Checkpoints => layers::forget_checkpoints(&work.domain()?, watch),
        Step::Replaced(volumes) => job.delete(volumes),
        Step::Start if committed && is_up(&work)? => Ok(()),
        Step::Start => power_on(&work, &work.domain()?),
    });
    on_again(&work, facts.running, done)?;
    watch.done(&format!("Restored {name} from {}", file.display()));
    if !from_archive {
        watch.note(&format!("machines/{name} was kept; `--files` replaces it by the archive's files"));
    }
    Ok(RestoredBackup {
        machine: name.clone(),
        file: file.clone(),
        generation: metadata.current().number,
        data_volume: Role::Data(top).of(&metadata.stem),
        files_restored: from_archive,
        brought: brings.files,
        running: facts.running,
    })
}

fn is_up(work: &Work) -> Result<bool> {
    Ok(work.domain()?.state()?.is_active())
}

/// Returns the files to agree to before that restore. Only the beginning of the archive is read.
pub fn brings(setup: &Setup, wanted: &Restore) -> Result<Brings> {
    let archive = Archive::open(&wanted.file)?;
    check_name(wanted, &archive.manifest().about)?;
    trust::brings(setup, (&wanted.name, wanted.files), (&wanted.file, &archive), &files_of(&archive)?)
}

/// Refuses to restore one machine's archive over another machine.
fn check_name(wanted: &Restore, about: &About) -> Result<()> {
    let (of, name) = (&about.machine, &wanted.name);
    if wanted.anew || of == name {
        return Ok(());
    }
    Err(Failure::user(format!(
        "{} is an archive of the machine `{of}`, not of `{name}`",
        wanted.file.display()
    ))
    .hint(format!("`nixvm restore-backup {of} FILE --as {name}` makes a new machine `{name}` of it"))
    .into())
}

/// Refuses a new machine where one is.
fn check_place(wanted: &Restore, domain: Option<&Owned>) -> Result<()> {
    let name = &wanted.name;
    // A folder alone may be left from this command, interrupted; it has its own identity.
    if wanted.anew && domain.is_some() {
        return Err(Failure::user(format!("the machine `{name}` exists; nothing was changed"))
            .hint("name one that does not")
            .into());
    }
    Ok(())
}

fn virtual_size(archive: &Archive) -> u64 {
    let sizes = archive.manifest().members.iter().filter_map(|member| match member.role {
        backup::MemberKind::Data { virtual_size } => Some(virtual_size),
        _ => None,
    });
    sizes.max().unwrap_or_default()
}

/// Returns the machine as it will be declared; its data disk is never smaller than the archive's or the declared one.
fn declared(
    wanted: &Restore,
    setup: &Setup,
    files: &[ArchivedFile],
    from_archive: bool,
    virtual_size: u64,
) -> Result<Machine> {
    let name = &wanted.name;
    let machine = match (wanted.anew, from_archive) {
        (true, true) => config::with_new_identity(&config::from_archive(name, files)?, name)?,
        (false, true) => config::from_archive(name, files)?,
        (_, false) => config::load(&setup.workspace, name)?,
    };
    setup.workspace.check_profile(&machine.profile).explain(|| {
        Failure::user(format!("the machine `{name}` cannot be built in this workspace; nothing was changed"))
            .hint(format!("put the file of its profile, `{}.nix`, into profiles/", machine.profile))
    })?;
    // Where it is restored, not where it was archived.
    let (pool, libvirt) = (Some(setup.pool.clone()), Some(setup.libvirt()));
    // How a machine is kept on its host is no part of the data that is replaced.
    let autostart = config::autostart(&setup.workspace, name)?.unwrap_or(machine.autostart);
    let protect = if config::exists(&setup.workspace, name) {
        config::is_protected(&setup.workspace, name)?
    } else {
        // A copy is protected by nobody yet.
        machine.protect && !wanted.anew
    };
    // `var_size` is in whole MiB; a disk that was resized by hand may have any length.
    let var_size = machine.var_size.max(Size::from_bytes(virtual_size.next_multiple_of(1 << 20)));
    Ok(Machine { pool, libvirt, var_size, autostart, protect, ..machine })
}

fn built(
    setup: &Setup,
    machine: &Machine,
    beside: &Path,
    domain: Option<&Owned>,
    folder: bool,
    watch: &dyn Watch,
) -> Result<BuiltMachine> {
    nix::require()?;
    let known = domain.map(|domain| &domain.metadata().generations);
    let wanted = Wanted { machine, beside: beside.to_owned(), known, anew: false };
    build_machine(setup, &wanted, watch).inspect_err(|_| {
        if !folder {
            // Otherwise the flake would offer a machine that does not exist.
            let _ = render::remove(&setup.workspace.rendered_dir(), &machine.name);
        }
    })
}

/// Returns the metadata of the restored domain; snapshots and earlier generations stay.
fn metadata(
    setup: &Setup,
    host: &Hypervisor,
    machine: &Machine,
    domain: Option<&Owned>,
    built: Option<&BuiltMachine>,
) -> Result<Metadata> {
    let Some(there) = domain.map(|domain| domain.metadata()) else {
        let built = built.ok_or_else(|| Failure::bug("a machine without a system"))?;
        return Ok(first_metadata(setup, free_stem(host, &machine.name)?, machine, built));
    };
    let generations = there.generations.clone();
    Ok(Metadata {
        generations: match built {
            Some(built) => generations.with_untried(steps::record(machine, built)),
            None => generations,
        },
        ..there.clone()
    })
}

/// A restore on its way.
struct Job<'a> {
    work: &'a Work<'a>,
    pool: &'a Pool,
    chain: &'a [Archive],
    machine: &'a Machine,
    metadata: &'a Metadata,
}

impl Job<'_> {
    fn facts(&self, domain: Option<&Owned>, built: Option<&BuiltMachine>, folder: bool) -> Result<Facts> {
        let stem = self.metadata.stem.clone();
        let replaced = |domain: &Owned| -> Result<Vec<String>> {
            let top = Role::Data(layer_of(domain)?).of(&stem);
            Ok(self.pool.chain(&top)?.into_iter().map(|link| link.volume).collect())
        };
        let highest = match domain {
            Some(_) => highest_layer(self.pool, &stem)?,
            None => steps::left_data(self.work, self.pool, &stem)?,
        };
        let newest = self.chain.last().map(Archive::manifest);
        let is_nvram = |member: &backup::Member| matches!(member.role, backup::MemberKind::Nvram);
        Ok(Facts {
            replaced: domain.map(replaced).transpose()?,
            running: domain.map_or(Ok(false), |domain| self.work.is_to_run(domain))?,
            build: built.map(|built| built.generation.number),
            highest: highest.unwrap_or(0),
            archives: self.chain.len(),
            nvram: newest.is_some_and(|manifest| manifest.members.iter().any(is_nvram)),
            folder,
            stem,
        })
    }

    /// Puts the data of one archive of the chain into the pool.
    fn data(&self, archive: usize, volume: &str, on: Option<&str>) -> Result<()> {
        self.work.watch.step(&format!("Copying the data of {} into the pool", self.machine.name));
        let is_data = |role: &backup::MemberKind| matches!(role, backup::MemberKind::Data { .. });
        self.member(archive, is_data, |bytes, length| {
            let incoming = Incoming { bytes, length, on };
            self.pool.pour(volume, incoming, &mut moved(self.work.watch)).map(drop)
        })
    }

    fn nvram(&self, volume: &str) -> Result<()> {
        self.pool.delete(volume)?;
        self.member(
            self.chain.len() - 1,
            |role| matches!(role, backup::MemberKind::Nvram),
            |bytes, length| {
                let mut nvram = Vec::new();
                bytes.take(length).read_to_end(&mut nvram)?;
                self.pool.put_bytes(volume, &nvram).map(drop)
            },
        )
    }

    /// Gives `take` the member of that role and its length.
    fn member(
        &self,
        archive: usize,
        is: impl Fn(&backup::MemberKind) -> bool,
        take: impl FnOnce(&mut dyn Read, u64) -> Result<()>,
    ) -> Result<()> {
        let none = || Failure::bug("the archive has no such member");
        let mut members = self.chain.get(archive).ok_or_else(none)?.members()?;
        while let Some(mut entry) = members.advance()? {
            if is(&entry.member().role) {
                let length = entry.member().size;
                return take(&mut entry, length);
            }
        }
        Err(none().into())
    }

    /// Shuts the machine down, or cuts its power: its data is replaced anyway.
    fn power_off(&self, limit: Duration) -> Result<()> {
        let Work { name, watch, .. } = self.work;
        if let Err(error) = take_down(self.work, limit) {
            interrupt::check()?;
            watch.note(&format!("the power of {name} is cut, because its data is replaced ({error:#})"));
            self.work.domain()?.force_off()?;
        }
        Ok(())
    }

    /// Deletes the layers of the replaced data that no snapshot lies on.
    fn delete(&self, volumes: &[String]) -> Result<()> {
        let used = roots::of(self.pool, &*self.work.domain()?)?;
        for volume in volumes.iter().filter(|volume| !used.contains(*volume)) {
            self.pool.delete(volume)?;
        }
        Ok(())
    }
}
