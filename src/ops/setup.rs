//! What every operation is told: where the workspace is, which libvirt, which nixpkgs.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use sha2::{Digest, Sha256};

use crate::config::Workspace;
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::hypervisor::{Hypervisor, is_local, is_session};
use crate::model::record::Metadata;
use crate::model::{Connection, PoolName};
use crate::nix::{self, Event, Flake, Staged};

use super::base;
use super::lock;
use super::ownership;
use super::session::Session;

/// Listens to what an operation does while it works.
pub trait Watch {
    /// A step begins.
    fn step(&self, text: &str);
    /// A step is over, with this result.
    fn done(&self, text: &str);
    /// Something the user should know, though nothing failed.
    fn note(&self, text: &str);
    /// Nix said something.
    fn nix(&self, event: &Event);
    /// A transfer has moved `done` of `total` bytes.
    fn bytes(&self, done: u64, total: u64);
}

/// The workspace and the host that an operation works on.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The folder with `flake.nix` and `machines/`.
    pub workspace: Workspace,
    /// libvirt's connection URI.
    pub connect: Connection,
    /// The storage pool that holds nixvm's volumes.
    pub pool: PoolName,
    /// A flake reference that replaces the locked nixpkgs, if the user gave one.
    pub nixpkgs: Option<String>,
    /// The folder of the folders of a libvirt session's pools, should one have to be made.
    pub session_pools: PathBuf,
    /// The folder for temporary files.
    pub temporary: PathBuf,
    /// Whose home and runtime folder a libvirt session of this user would work in.
    pub session: Session,
    /// Whether to throw the memory of a saved machine away where it is in the way.
    pub discard_saved: bool,
    /// Whether to wait for another command that works on the same machine.
    pub wait: bool,
    /// After how many steps of a plan to die as in a power cut, or to be asked to end; for tests of exactly that.
    pub die_after: Option<(usize, Signal)>,
    /// Where what was learnt of this host is remembered between calls.
    pub cache: PathBuf,
    /// Where this user's own copies of `output/base` are.
    pub choices: PathBuf,
}

impl Setup {
    /// Returns a connection to libvirt, through which machines of this workspace alone can be changed.
    ///
    /// # Errors
    /// libvirt does not answer; for a session on this host, its folders are not this user's.
    pub fn hypervisor(&self) -> Result<Hypervisor> {
        if is_session(self.connect.as_str())
            && is_local(self.connect.as_str())
            && let Some(failure) = self.session.fault()
        {
            return Err(failure.into());
        }
        let workspace = self.workspace.clone();
        let owner = move |recorded: &Metadata, id| ownership::require(&workspace, recorded, id);
        Ok(Hypervisor::open(self.connect.as_str())?.of_workspace(Box::new(owner)))
    }

    /// Copies the workspace's flake to Nix's store, with all of its inputs locked, and the machines that `render` puts into the
    /// folder it is given, together with the SHA-256 of flake and nixpkgs in hexadecimal; returns the copies.
    ///
    /// Nothing in the store changes. So Nix builds what was read here, whatever other commands and editors write meanwhile.
    ///
    /// # Errors
    /// The workspace holds no flake or what Nix may not see, an input cannot be locked, a copy cannot be written, or an error
    /// of `render`.
    pub fn flake(&self, render: impl FnOnce(&Path, &str) -> Result<()>, watch: &dyn Watch) -> Result<Flake> {
        let nixpkgs = self.nixpkgs()?;
        if let Some(reference) = nixpkgs.as_deref().filter(|_| self.nixpkgs.is_none()) {
            watch.note(&format!("building from the nixpkgs that output/base names: {reference}"));
        }
        let mut staged = self.stage()?;
        lock::complete(self, &mut staged, nixpkgs.as_deref(), watch)?;
        if !staged.left_out.is_empty() {
            let names: Vec<String> = staged.left_out.iter().map(|path| path.display().to_string()).collect();
            watch.note(&format!("not given to Nix, for it looks like a secret: {}", names.join(", ")));
        }
        // A folder or a branch may hold something else by the time that Nix builds, and at the next build.
        let nixpkgs = nixpkgs.map(|nixpkgs| pinned(&nixpkgs)).transpose()?;
        let digest =
            Sha256::digest(format!("{}\n{}", staged.digest(), nixpkgs.as_deref().unwrap_or("locked")));
        let rendered = file::private_folder_in(&self.workspace.output_dir())?;
        render(rendered.path(), &format!("{digest:x}"))?;
        let machines = nix::add_to_store(rendered.path())?;
        let folder = nix::add_to_store(staged.folder())?;
        file::give_folder_to_owner(rendered.path())?;
        self.publish(rendered.path())?;
        staged.publish(&self.workspace.flake_dir())?;
        Ok(Flake { folder, machines, nixpkgs })
    }

    /// Puts rendered machines to where people look at them; others stay.
    fn publish(&self, rendered: &Path) -> Result<()> {
        let target = self.workspace.rendered_dir();
        file::create_private_folder(&target)?;
        let cannot = || Failure::user(format!("cannot read `{}`", rendered.display()));
        for entry in fs::read_dir(rendered).explain(cannot)? {
            let entry = entry.explain(cannot)?;
            file::replace_folder(&entry.path(), &target.join(entry.file_name()))?;
        }
        Ok(())
    }

    /// Returns a copy of the workspace's flake, with the lock as it is.
    ///
    /// # Errors
    /// The workspace holds no flake or what Nix may not see, or the copy cannot be written.
    pub fn stage(&self) -> Result<Staged> {
        let output = self.workspace.output_dir();
        nix::require_own_output(self.workspace.root(), &output)?;
        nix::stage(self.workspace.root(), &output)
    }

    /// Returns the flake reference that replaces the locked nixpkgs: the one given with this command, else that of `output/base`.
    ///
    /// # Errors
    /// `output/base` cannot be read, or names what this user did not choose.
    pub fn nixpkgs(&self) -> Result<Option<String>> {
        if self.nixpkgs.is_some() {
            return Ok(self.nixpkgs.clone());
        }
        base::chosen(&self.workspace, &self.cache, &self.choices)
    }
}

fn pinned(nixpkgs: &str) -> Result<String> {
    nix::pinned(nixpkgs).explain(|| {
        Failure::user(format!("cannot read the nixpkgs `{nixpkgs}`; nothing was changed"))
            .hint("do what Nix says above: what replaces nixpkgs stands in `--nixpkgs`, NIXVM_NIXPKGS or output/base")
    })
}
