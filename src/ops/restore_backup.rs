//! `restore-backup`: a machine from an archive, in place of the one that is there or where none is.
//!
//! The archive, and all that it adds to, is verified before anything is touched. Then the new is put beside the old, while
//! the machine runs: the system, where it has to be built, and the data, each archive as a layer on the one before it.
//! The definition of the domain on that data is the one change that counts; what it replaces is deleted after it.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::backup::{self, About, Archive};
use crate::config::{self, ArchivedFile};
use crate::error::{Explain, Failure, Result};
use crate::hypervisor::{Hypervisor, Owned};
use crate::interrupt;
use crate::model::record::{Generations, Metadata};
use crate::model::volume::{Role, VolumeStem};
use crate::model::{Machine, MachineName, Size};
use crate::nix;
use crate::render;
use crate::storage::{Incoming, Pool};

use super::build::build_machine;
use super::deploy::{self, moved};
use super::work::{Step as Plan, Work};
use super::{BuiltMachine, Setup, Watch, archives, destroy, layers, nvram, power, roots, start, trial};

/// What to restore, and as what.
#[derive(Debug, Clone)]
pub struct Restore {
    /// The archive.
    pub file: PathBuf,
    /// The machine: that of the archive, or a new one like it.
    pub name: MachineName,
    /// Whether it is a new one, with an identity of its own.
    pub anew: bool,
    /// Whether the archive's files replace those in `machines/NAME`.
    pub files: bool,
    /// How long a machine that runs is given to shut down; its power is cut then, for its data is replaced.
    pub limit: Duration,
}

/// A machine that was restored.
#[derive(Debug, Clone, Serialize)]
pub struct RestoredBackup {
    /// The machine.
    pub machine: MachineName,
    /// The archive.
    pub file: PathBuf,
    /// The build that it is defined on.
    pub generation: u32,
    /// The volume that holds its data.
    pub data_volume: String,
    /// Whether `machines/NAME` is the archive's now; else it was kept.
    pub files_restored: bool,
    /// Whether it runs.
    pub running: bool,
}

/// What a restore does. Up to `Define` nothing of the machine is changed but that it is shut down.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Network,
    Base,
    Boot(String),
    Data { archive: usize, volume: String, on: Option<String> },
    Identity(String),
    NextNvram(String),
    Files,
    PowerOff,
    Define,
    PutNvram,
    Checkpoints,
    Replaced(Vec<String>),
    Start,
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Network => "see that the network is there".into(),
            Step::Base => "put the base image into the pool".into(),
            Step::Boot(_) => "put the boot disk into the pool".into(),
            Step::Data { volume, .. } => format!("put the data into the pool as {volume}"),
            Step::Identity(_) => "write the identity volume".into(),
            Step::NextNvram(_) => "make the firmware's variables ready".into(),
            Step::Files => "write the machine's files".into(),
            Step::PowerOff => "shut the machine down".into(),
            Step::Define => "define the domain on the restored data".into(),
            Step::PutNvram => "put them in force".into(),
            Step::Checkpoints => "forget the checkpoints of the replaced data".into(),
            Step::Replaced(_) => "delete the replaced data".into(),
            Step::Start => "start the machine".into(),
        }
    }

    fn volumes(&self) -> Vec<String> {
        match self {
            Step::Boot(volume)
            | Step::Data { volume, .. }
            | Step::Identity(volume)
            | Step::NextNvram(volume) => {
                vec![volume.clone()]
            }
            Step::Replaced(volumes) => volumes.clone(),
            _ => Vec::new(),
        }
    }
}

/// What is there, and what is wanted.
#[derive(Debug, Clone)]
struct Facts {
    stem: VolumeStem,
    /// The volumes of the data in use, if the machine has a domain.
    replaced: Option<Vec<String>>,
    running: bool,
    /// The generation whose system has to be put into the pool; `None` keeps the one that is there.
    build: Option<u32>,
    /// The highest layer of data in the pool.
    highest: u32,
    archives: usize,
    nvram: bool,
    folder: bool,
}

fn plan(facts: &Facts) -> Vec<Step> {
    let stem = &facts.stem;
    let born = facts.replaced.is_none();
    let mut steps = Vec::new();
    if let Some(generation) = facts.build {
        steps.extend([Step::Network, Step::Base, Step::Boot(Role::Boot(generation).of(stem))]);
    }
    let volume = |archive: usize| Role::Data(layer(facts, archive)).of(stem);
    for archive in 0..facts.archives {
        let on = archive.checked_sub(1).map(volume);
        steps.push(Step::Data { archive, volume: volume(archive), on });
    }
    if born {
        steps.push(Step::Identity(Role::Identity.of(stem)));
    }
    if facts.nvram {
        steps.push(Step::NextNvram(Role::NextNvram(top(facts)).of(stem)));
    }
    if !facts.folder {
        // A domain without files could not be started.
        steps.push(Step::Files);
    }
    if facts.running {
        steps.push(Step::PowerOff);
    }
    steps.push(Step::Define);
    if facts.nvram {
        steps.push(Step::PutNvram);
    }
    if facts.folder {
        // What is replaced is kept until the machine is defined, files too.
        steps.push(Step::Files);
    }
    if let Some(replaced) = &facts.replaced {
        steps.extend([Step::Checkpoints, Step::Replaced(replaced.clone())]);
    }
    if facts.running {
        steps.push(Step::Start);
    }
    steps
}

/// Returns the layer that an archive of the chain becomes: above all that are in the pool.
fn layer(facts: &Facts, archive: usize) -> u32 {
    facts.highest.saturating_add(1).saturating_add(u32::try_from(archive).unwrap_or(u32::MAX))
}

/// Returns the layer that the machine will write to.
fn top(facts: &Facts) -> u32 {
    layer(facts, facts.archives.saturating_sub(1))
}

/// Restores a machine from an archive.
///
/// # Errors
/// The archive, or one that it adds to, is missing or not what nixvm wrote; it is of another machine; the machine cannot be
/// built; the pool has no space. The machine that was there is as it was then.
pub fn restore_backup(setup: &Setup, wanted: &Restore, watch: &dyn Watch) -> Result<RestoredBackup> {
    let Restore { file, name, .. } = wanted;
    let chain = archives::chain(file)?;
    let newest = chain.last().ok_or_else(|| Failure::bug("a chain of no archives"))?;
    let about = &newest.manifest().about;
    check_name(wanted, about)?;
    let work = Work::begin(setup, name, "restore-backup", watch)?;
    let domain = work.host.find(name)?.map(|_| work.domain()).transpose()?;
    check_place(wanted, setup, domain.as_ref())?;
    archives::verify(&chain, watch)?;

    let files = files_of(newest)?;
    let folder = config::exists(&setup.workspace, name);
    let from_archive = wanted.files || !folder;
    let machine = declared(wanted, setup, &files, from_archive, virtual_size(newest))?;
    work.host.check_free(name, machine.machine_id)?;
    let built = match &domain {
        Some(_) if !wanted.files => None,
        _ => Some(built(setup, &machine, domain.as_ref(), folder, watch)?),
    };

    let pool = work.pool()?;
    let metadata = metadata(setup, &work.host, &machine, domain.as_ref(), built.as_ref())?;
    let job = Job { work: &work, pool: &pool, chain: &chain, machine: &machine, metadata: &metadata };
    let facts = job.facts(wanted, domain.as_ref(), built.as_ref(), folder)?;
    let top = top(&facts);
    work.carry_out(&plan(&facts), |step| match (step, &built) {
        (Step::Network, _) => deploy::ensure_network(&work.host, &machine.network),
        (Step::Base, Some(built)) => deploy::put_base(&work, &pool, &built.image),
        (Step::Boot(volume), Some(built)) => job.boot(volume, built, domain.as_ref()),
        (Step::Base | Step::Boot(_), None) => {
            Err(Failure::bug("there is no system to put into the pool").into())
        }
        (Step::Data { archive, volume, on }, _) => job.data(*archive, volume, on.as_deref()),
        (Step::Identity(_), _) => deploy::put_identity(&pool, &metadata.stem, &machine),
        (Step::NextNvram(volume), _) => job.nvram(volume),
        (Step::PutNvram, _) => nvram::put_in_force(&pool, &work.domain()?),
        (Step::Files, _) if from_archive => config::unpack(&setup.workspace, &machine, &files),
        (Step::Files, _) => config::save(&setup.workspace, &machine),
        (Step::PowerOff, _) => job.power_off(wanted.limit),
        (Step::Define, _) => deploy::define(setup, &work.host, &machine, &metadata, top, watch),
        (Step::Checkpoints, _) => layers::forget_checkpoints(&work.domain()?, watch),
        (Step::Replaced(volumes), _) => job.delete(volumes),
        (Step::Start, _) => start::power_on(&work, &work.domain()?),
    })?;
    watch.done(&format!("Restored {name} from {}", file.display()));
    if !from_archive {
        watch.note(&format!(
            "machines/{name} was kept as it is; `--files` would have taken the archive's files"
        ));
    }
    Ok(RestoredBackup {
        machine: name.clone(),
        file: file.clone(),
        generation: metadata.current().number,
        data_volume: Role::Data(top).of(&metadata.stem),
        files_restored: from_archive,
        running: facts.running,
    })
}

/// Refuses to restore one machine's archive as another that has its own past.
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

/// Refuses a new machine where one is, and to replace one of another workspace.
fn check_place(wanted: &Restore, setup: &Setup, domain: Option<&Owned>) -> Result<()> {
    let name = &wanted.name;
    // A folder alone may be what this command left that was cut short; it has an identity of its own.
    if wanted.anew && domain.is_some() {
        return Err(Failure::user(format!("the machine `{name}` exists; nothing was changed"))
            .hint("name one that does not")
            .into());
    }
    if let Some(domain) = domain {
        destroy::require_declared_here(setup, name, "restore-backup", &domain.metadata().workspace)?;
    }
    Ok(())
}

fn virtual_size(archive: &Archive) -> u64 {
    let sizes = archive.manifest().members.iter().filter_map(|member| match member.role {
        backup::Role::Data { virtual_size } => Some(virtual_size),
        _ => None,
    });
    sizes.max().unwrap_or_default()
}

/// Returns the machine's files in the archive.
fn files_of(archive: &Archive) -> Result<Vec<ArchivedFile>> {
    let mut files = Vec::new();
    let mut members = archive.members()?;
    while let Some(mut entry) = members.advance()? {
        // They come first; what is behind them is not read here.
        let backup::Role::File { name, executable } = &entry.member().role else { break };
        let (name, executable) = (name.as_str().to_owned(), *executable);
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        files.push(ArchivedFile { name, executable, bytes });
    }
    Ok(files)
}

/// Returns the machine as it will be declared: a data disk never becomes smaller than it was or is to be.
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
    Ok(Machine { var_size: machine.var_size.max(Size::from_bytes(virtual_size)), ..machine })
}

/// Builds the machine's system.
fn built(
    setup: &Setup,
    machine: &Machine,
    domain: Option<&Owned>,
    folder: bool,
    watch: &dyn Watch,
) -> Result<BuiltMachine> {
    nix::require()?;
    let known = domain.map(|domain| &domain.metadata().generations);
    build_machine(setup, machine, known, watch).inspect_err(|_| {
        if !folder {
            // The flake would offer a machine that is not there.
            let _ = render::remove(&setup.workspace.rendered_dir(), &machine.name);
        }
    })
}

/// Returns what the domain will say of itself: its snapshots and earlier generations stay.
fn metadata(
    setup: &Setup,
    host: &Hypervisor,
    machine: &Machine,
    domain: Option<&Owned>,
    built: Option<&BuiltMachine>,
) -> Result<Metadata> {
    let build = built.map(|built| deploy::record(machine, built));
    match (domain.map(Owned::metadata), build) {
        (Some(there), None) => Ok(there.clone()),
        (Some(there), Some(build)) => {
            Ok(Metadata { generations: there.generations.with(build), ..there.clone() })
        }
        (None, Some(build)) => Ok(Metadata {
            machine: machine.name.clone(),
            workspace: setup.workspace.root().display().to_string(),
            stem: deploy::free_stem(host, &machine.name)?,
            ssh_port: None,
            generations: Generations::first(build),
            snapshots: Vec::new(),
        }),
        (None, None) => Err(Failure::bug("a machine without a system").into()),
    }
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
    fn facts(
        &self,
        wanted: &Restore,
        domain: Option<&Owned>,
        built: Option<&BuiltMachine>,
        folder: bool,
    ) -> Result<Facts> {
        let stem = self.metadata.stem.clone();
        let replaced = |domain: &Owned| -> Result<Vec<String>> {
            let top = Role::Data(deploy::layer_of(domain)?).of(&stem);
            Ok(self.pool.chain(&top)?.into_iter().map(|link| link.volume).collect())
        };
        let highest = deploy::layers(self.pool, &stem)?.last().copied().unwrap_or(0);
        if domain.is_none() && highest > 0 {
            self.work.watch.note(&format!(
                "the pool has a data disk of {} already, `{}`; it is kept as it is",
                wanted.name,
                Role::Data(highest).of(&stem)
            ));
        }
        let newest = self.chain.last().map(Archive::manifest);
        let is_nvram = |member: &backup::Member| matches!(member.role, backup::Role::Nvram);
        Ok(Facts {
            replaced: domain.map(replaced).transpose()?,
            running: domain.map(Owned::state).transpose()?.is_some_and(|state| state.is_active()),
            build: built.map(|built| built.generation.number),
            highest,
            archives: self.chain.len(),
            nvram: newest.is_some_and(|manifest| manifest.members.iter().any(is_nvram)),
            folder,
            stem,
        })
    }

    fn boot(&self, volume: &str, built: &BuiltMachine, domain: Option<&Owned>) -> Result<()> {
        let number = built.generation.number;
        let known = domain.is_some_and(|domain| domain.metadata().generations.get(number).is_some());
        if !known {
            // What lies there under this name is of a build that nobody remembers.
            self.pool.delete(volume)?;
        }
        deploy::put_boot(self.work, self.pool, volume, built)?;
        trial::forget(self.work.setup, &self.work.name)
    }

    /// Puts the data of one archive of the chain into the pool.
    fn data(&self, archive: usize, volume: &str, on: Option<&str>) -> Result<()> {
        self.work.watch.step(&format!("Copying the data of {} into the pool", self.machine.name));
        let is_data = |role: &backup::Role| matches!(role, backup::Role::Data { .. });
        self.member(archive, is_data, |bytes, length| {
            let incoming = Incoming { bytes, length, on };
            self.pool.pour(volume, incoming, &mut moved(self.work.watch)).map(drop)
        })
    }

    fn nvram(&self, volume: &str) -> Result<()> {
        self.pool.delete(volume)?;
        self.member(
            self.chain.len() - 1,
            |role| matches!(role, backup::Role::Nvram),
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
        is: impl Fn(&backup::Role) -> bool,
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

    /// Shuts the machine down; pulls the plug of one that does not: its data is replaced.
    fn power_off(&self, limit: Duration) -> Result<()> {
        let Work { setup, name, watch, .. } = self.work;
        if let Err(error) = power::stop(setup, name, limit, *watch) {
            interrupt::check()?;
            watch.note(&format!("{name} is switched off, as its data is replaced: {error:#}"));
            self.work.domain()?.force_off()?;
        }
        Ok(())
    }

    /// Deletes the layers of the replaced data that no snapshot lies on.
    fn delete(&self, volumes: &[String]) -> Result<()> {
        let used = roots::of(self.pool, &self.work.domain()?)?;
        for volume in volumes.iter().filter(|volume| !used.contains(*volume)) {
            self.pool.delete(volume)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            stem: "web".parse().unwrap(),
            replaced: Some(vec!["web.data-4.qcow2".into(), "web.data-2.qcow2".into()]),
            running: true,
            build: None,
            highest: 7,
            archives: 2,
            nvram: true,
            folder: true,
        }
    }

    fn at(steps: &[Step], wanted: impl Fn(&Step) -> bool) -> usize {
        steps.iter().position(wanted).unwrap()
    }

    #[test]
    fn what_is_new_is_whole_before_the_machine_stops_and_what_is_old_goes_after_it_is_defined() {
        let steps = plan(&facts());
        let define = at(&steps, |step| *step == Step::Define);
        let off = at(&steps, |step| *step == Step::PowerOff);
        let above =
            Step::Data { archive: 1, volume: "web.data-9.qcow2".into(), on: Some("web.data-8.qcow2".into()) };
        assert!(at(&steps, |step| *step == above) < off && off < define);
        for late in [Step::Files, Step::Checkpoints, Step::Replaced(facts().replaced.unwrap()), Step::Start] {
            assert!(at(&steps, |step| *step == late) > define, "{late:?}");
        }
        // In use, or the running machine's own.
        assert!(!steps.iter().any(|step| matches!(step, Step::Identity(_) | Step::Boot(_))));
    }

    #[test]
    fn a_machine_that_is_not_there_gets_everything_and_is_defined_last() {
        let new = Facts {
            replaced: None,
            running: false,
            build: Some(1),
            highest: 0,
            archives: 1,
            folder: false,
            ..facts()
        };
        let steps = plan(&new);
        assert_eq!(steps[steps.len() - 2..], [Step::Define, Step::PutNvram]);
        let volumes: Vec<String> = steps.iter().flat_map(Step::volumes).collect();
        assert_eq!(
            volumes,
            ["web.boot-1.qcow2", "web.data-1.qcow2", "web.identity.img", "web.nvram-next-1.fd"]
        );
        assert!(at(&steps, |step| *step == Step::Files) < at(&steps, |step| *step == Step::Define));
    }
}
