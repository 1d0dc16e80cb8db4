//! What every operation is told: where the workspace is, which libvirt, which nixpkgs.

use std::fs;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::config::Workspace;
use crate::error::{Explain, Failure, Result};
use crate::hypervisor::Hypervisor;
use crate::nix::{self, Event, Flake};

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
    pub connect: String,
    /// The storage pool that holds nixvm's volumes.
    pub pool: String,
    /// A flake reference that replaces the locked nixpkgs, if the user gave one.
    pub nixpkgs: Option<String>,
    /// The folder of the libvirt session's pool, should one have to be made.
    pub session_pool: PathBuf,
    /// Whether to wait for another command that works on the same machine.
    pub wait: bool,
    /// After how many steps of a plan to die as in a power cut; for tests of exactly that.
    pub die_after: Option<usize>,
    /// Where what was learnt of this host is remembered between calls.
    pub cache: PathBuf,
}

impl Setup {
    /// Returns a connection to libvirt.
    ///
    /// # Errors
    /// libvirt does not answer.
    pub fn hypervisor(&self) -> Result<Hypervisor> {
        Hypervisor::open(&self.connect)
    }

    /// Brings the staged copy of the flake up to date and returns it with its inputs, and the SHA-256 of both in hexadecimal.
    ///
    /// # Errors
    /// The workspace holds no flake, or the copy cannot be written.
    pub fn flake(&self) -> Result<(Flake, String)> {
        let folder = self.workspace.flake_dir();
        let machines = self.workspace.rendered_dir();
        fs::create_dir_all(&machines)
            .explain(|| Failure::user(format!("cannot create `{}`", machines.display())))?;
        let staged = nix::stage(self.workspace.root(), &folder)?;
        let nixpkgs = self.nixpkgs()?;
        let digest = Sha256::digest(format!("{staged}\n{}", nixpkgs.as_deref().unwrap_or("locked")));
        Ok((Flake { folder, machines, nixpkgs }, format!("{digest:x}")))
    }

    /// Returns the flake reference that replaces the locked nixpkgs: the user's, else what `quickstart` chose for this workspace.
    ///
    /// # Errors
    /// `output/base` cannot be read.
    pub fn nixpkgs(&self) -> Result<Option<String>> {
        if self.nixpkgs.is_some() {
            return Ok(self.nixpkgs.clone());
        }
        let file = self.workspace.base_file();
        match fs::read_to_string(&file) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|reference| !reference.is_empty())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).explain(|| Failure::user(format!("cannot read `{}`", file.display()))),
        }
    }
}
