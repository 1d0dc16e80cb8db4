//! The steps that bring a built machine to libvirt: volumes into the pool, then the domain's definition.
//!
//! Each can be taken again. Base and boot disk can always be made anew. A data disk is only made where there is none, and
//! nothing here ever deletes one.

use std::fs::File;
use std::path::Path;

use crate::build::{BuiltMachine, kept};
use crate::disks::highest_layer;
use crate::disks::layers::forget_checkpoints;
use crate::error::{Explain, Failure, Result};
use crate::host::{Setup, Watch, accelerator, ensure_network, exposure, moved, open_pool, ssh_port};
use crate::hypervisor::{Hypervisor, Owned};
use crate::model::domain::{DomainFiles, DomainSpec};
use crate::model::record::{Build, BuildHealth, Generations, Metadata};
use crate::model::volume::{Role, VolumeStem};
use crate::model::{Machine, Network, Timestamp};
use crate::nix::image::Image;
use crate::render;
use crate::storage::{self, Pool, Stored};
use crate::work::{Plan, Work};

/// A step that brings a built machine to libvirt: verbs that make or replace one share these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deploy {
    Network,
    Base,
    Boot(String),
    /// An empty data disk.
    Data(String),
    Identity(String),
    Define,
}

impl Plan for Deploy {
    fn title(&self) -> String {
        match self {
            Deploy::Network => "see that the network is there",
            Deploy::Base => "put the base image into the pool",
            Deploy::Boot(_) => "put the boot disk into the pool",
            Deploy::Data(_) => "make the data disk",
            Deploy::Identity(_) => "write the identity volume",
            Deploy::Define => "define the domain",
        }
        .into()
    }

    fn volumes(&self) -> Vec<String> {
        match self {
            Deploy::Boot(volume) | Deploy::Data(volume) | Deploy::Identity(volume) => vec![volume.clone()],
            Deploy::Network | Deploy::Base | Deploy::Define => Vec::new(),
        }
    }
}

/// What such steps work with.
pub struct Deployment<'a> {
    pub work: &'a Work<'a>,
    pub pool: &'a Pool,
    pub machine: &'a Machine,
    /// `None` where the system that is in the pool stays.
    pub built: Option<&'a BuiltMachine>,
    /// What the domain is to say.
    pub metadata: &'a Metadata,
    /// The layer of data that it is defined on.
    pub layer: u32,
}

impl Deployment<'_> {
    pub fn take(&self, step: &Deploy) -> Result<()> {
        let Deployment { work, pool, machine, metadata, .. } = *self;
        let built = || self.built.ok_or_else(|| Failure::bug("there is no system to put into the pool"));
        match step {
            Deploy::Network => ensure_network(&work.host, &machine.network),
            Deploy::Base => put_base(work, pool, &built()?.image),
            Deploy::Boot(volume) => put_boot(work, pool, volume, built()?),
            Deploy::Data(volume) => make_data(work, pool, volume, machine),
            Deploy::Identity(_) => put_identity(work, pool, &metadata.stem, machine),
            Deploy::Define => define(work.setup, &work.host, machine, metadata, self.layer, work.watch),
        }
    }
}

/// Returns what the domain of a new machine says.
pub fn first_metadata(setup: &Setup, stem: VolumeStem, machine: &Machine, built: &BuiltMachine) -> Metadata {
    Metadata {
        machine: machine.name.clone(),
        workspace: setup.workspace.as_str().to_owned(),
        stem,
        ssh_port: None,
        generations: Generations::first(record(machine, built)),
        snapshots: Vec::new(),
    }
}

/// Returns what a domain says of a build.
pub fn record(machine: &Machine, built: &BuiltMachine) -> Build {
    Build {
        number: built.generation.number,
        profile: machine.profile.clone(),
        digest: built.generation.digest.clone(),
        also: None,
        fingerprint: Some(built.image.fingerprint.clone()),
        base: built.image.base_volume.clone(),
        made: Timestamp::now().unix(),
        health: BuildHealth::Untried,
        nixpkgs: built.image.nixpkgs_revision.clone(),
        kernel: built.image.kernel.clone(),
        seen: None,
    }
}

/// Copies the base image into the pool, unless it is there.
pub fn put_base(work: &Work, pool: &Pool, image: &Image) -> Result<()> {
    let profile = &image.profile;
    let wanted = work.host.arch()?.nix_system();
    if image.system != wanted {
        return Err(Failure::user(format!(
            "the image is for {}, and `{}` is {wanted}",
            image.system,
            work.host.uri()
        ))
        .hint("Nix builds for the computer that runs nixvm; run it on one with the host's architecture")
        .into());
    }
    work.watch.step(&format!("Copying the base image of {profile} into the pool"));
    if pool.put(&image.base_volume, &open(&image.base)?, &mut moved(work.watch))? == Stored::Uploaded {
        work.watch
            .done(&format!("Copied the base image of {profile} into the pool, once for all its machines"));
    }
    Ok(())
}

/// Copies the boot disk of a build into the pool, unless the machine has that build, and keeps what it was made from.
pub fn put_boot(work: &Work, pool: &Pool, volume: &str, built: &BuiltMachine) -> Result<()> {
    let number = built.generation.number;
    let domain = work.host.own_if_any(&work.name)?;
    if domain.is_none_or(|domain| domain.metadata().generations.get(number).is_none()) {
        // A volume of this name is left from a command that nobody finished.
        pool.delete(volume)?;
    }
    put_disk(work, pool, volume, &built.image)?;
    kept::keep(work.setup, built)
}

/// Copies a machine's boot disk into the pool, unless it is there, and its base once more, if that was deleted meanwhile.
pub fn put_disk(work: &Work, pool: &Pool, volume: &str, image: &Image) -> Result<()> {
    work.watch.step(&format!("Copying the boot disk of {} into the pool", work.name));
    pool.put(volume, &open(&image.disk)?, &mut moved(work.watch))?;
    // From now on this volume shows that it needs the base. `clean` of another workspace may have looked before.
    let base = &image.base_volume;
    pool.wait_while_condemned(base)?;
    if pool.put(base, &open(&image.base)?, &mut moved(work.watch))? == Stored::Uploaded {
        work.watch.note(&format!("copied {base} once more, because it was deleted a moment ago"));
    }
    Ok(())
}

/// Returns the highest layer of data that the pool has already of a machine without a domain, and says that it is kept.
pub fn left_data(work: &Work, pool: &Pool, stem: &VolumeStem) -> Result<Option<u32>> {
    let left = highest_layer(pool, stem)?;
    if let Some(layer) = left {
        let volume = Role::Data(layer).of(stem);
        work.watch
            .note(&format!("the pool has a data disk of {} already, `{volume}`; it is kept", work.name));
    }
    Ok(left)
}

/// Makes an empty data disk in the pool, unless it is there.
pub fn make_data(work: &Work, pool: &Pool, volume: &str, machine: &Machine) -> Result<()> {
    if pool.is_whole(volume)? {
        return Ok(());
    }
    work.watch.step(&format!("Making the data disk of {}", work.name));
    let disk = storage::data::format(machine.var_size, &work.setup.workspace.output_dir())?;
    pool.put(volume, disk.as_file(), &mut moved(work.watch)).map(drop)
}

/// Defines a machine's domain from its files, on the current generation of `metadata` and that layer of data.
pub fn define(
    setup: &Setup,
    host: &Hypervisor,
    machine: &Machine,
    metadata: &Metadata,
    layer: u32,
    watch: &dyn Watch,
) -> Result<()> {
    let runs = host.find(&machine.name)?.is_some_and(|domain| domain.state.is_active());
    let ssh_port = match (&machine.network, metadata.ssh_port) {
        // QEMU of the running machine has the port, so it stays.
        (Network::User, Some(port)) if runs => Some(port),
        (network, last) => ssh_port(host, network, last)?,
    };
    let spec = DomainSpec {
        name: machine.name.clone(),
        machine_id: machine.machine_id,
        arch: host.arch()?,
        accelerator: accelerator(setup, host, watch)?,
        memory: machine.memory,
        vcpus: machine.vcpus,
        network: machine.network.clone(),
        mac: machine.mac,
        files: files(&open_pool(setup, host)?, metadata, layer)?,
        metadata: Metadata { ssh_port, ..metadata.clone() },
    };
    let set_back = host.define(&machine.name, machine.machine_id, &render::domain_xml(&spec)?)?;
    if !set_back.is_empty() {
        watch.note(&format!(
            "the definition of {} was changed by hand; nixvm resets the values that it manages: {}",
            machine.name,
            set_back.join(", ")
        ));
    }
    host.own(&machine.name)?.set_autostart(machine.autostart)
}

/// Does the same on a layer that was put on the one in use, if no other program has started the machine meanwhile: its guest
/// would go on writing to the layer that is frozen now.
pub fn define_on_layer(
    work: &Work,
    domain: &Owned,
    machine: &Machine,
    metadata: &Metadata,
    layer: u32,
) -> Result<()> {
    work.require_off(domain)?;
    forget_checkpoints(domain, work.watch)?;
    define(work.setup, &work.host, machine, metadata, layer, work.watch)
}

/// Returns the paths of the files that a domain names.
fn files(pool: &Pool, metadata: &Metadata, layer: u32) -> Result<DomainFiles> {
    let volume = |role: Role| role.of(&metadata.stem);
    let folder = pool.path()?;
    // QEMU makes these two files at the first start; until then libvirt knows no volumes for them.
    let made_later = |role: Role| format!("{folder}/{}", volume(role));
    Ok(DomainFiles {
        boot: pool.volume_path(&volume(Role::Boot(metadata.current().number)))?,
        data: pool.volume_path(&volume(Role::Data(layer)))?,
        identity: pool.volume_path(&volume(Role::Identity))?,
        nvram: made_later(Role::Nvram),
        serial_log: made_later(Role::SerialLog(None)),
    })
}

/// Writes the identity volume of a machine that starts with its host, for then no `start` compares it with the machine's files.
///
/// A running guest keeps the volume that it was started with.
pub fn refresh_identity(work: &Work, machine: &Machine) -> Result<()> {
    match work.host.own_if_any(&work.name)? {
        Some(domain) if machine.autostart => {
            put_identity(work, &work.pool()?, &domain.metadata().stem, machine)
        }
        _ => Ok(()),
    }
}

/// Returns the image of a machine's identity volume.
pub fn identity(machine: &Machine) -> Result<Vec<u8>> {
    // An empty hash would let root in without a password; `!*` lets nobody in.
    let root = machine.root_password.as_ref().map_or("!*", |hash| hash.as_str());
    storage::identity::image(&[
        ("ssh_host_ed25519_key", machine.host_key.private().as_bytes()),
        ("root_password_hash", format!("{root}\n").as_bytes()),
    ])
}

/// Writes a machine's secrets to its identity volume, and warns where others could read them on the way.
///
/// A volume that holds them already is left alone, so that a machine starts again on a full disk.
pub fn put_identity(work: &Work, pool: &Pool, stem: &VolumeStem, machine: &Machine) -> Result<()> {
    exposure::warn(work.setup, &machine.name, "the ssh host key and the root password's hash", work.watch);
    let image = identity(machine)?;
    let name = Role::Identity.of(stem);
    if pool.holds(&name, &image)? {
        return Ok(());
    }
    pool.delete(&name)?;
    pool.put_bytes(&name, &image).map(drop)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).explain(|| Failure::unreadable(path))
}
