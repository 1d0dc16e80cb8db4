//! What every operation is told: where the workspace is, which libvirt, which nixpkgs.

use std::path::PathBuf;

use rustix::process::Signal;

use crate::config::Workspace;
use crate::error::Result;
use crate::host::{Session, ownership};
use crate::hypervisor::Hypervisor;
use crate::model::record::Metadata;
use crate::model::uri::{is_local, is_session};
use crate::model::{Connection, MachineName, PoolName};

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

    /// Checks that the domain of that name, if it is nixvm's, is of this workspace.
    ///
    /// # Errors
    /// It is another workspace's.
    pub fn require_own(&self, name: &MachineName) -> Result<()> {
        ownership::require_own(&self.workspace, &self.hypervisor()?, name)
    }
}
