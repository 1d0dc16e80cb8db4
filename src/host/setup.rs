//! The settings of one operation: which workspace, which libvirt and pool, which nixpkgs.

use std::path::PathBuf;

use rustix::process::Signal;

use crate::config::Workspace;
use crate::error::Result;
use crate::host::{Session, ownership};
use crate::hypervisor::Hypervisor;
use crate::model::record::Metadata;
use crate::model::uri::{is_local, is_session};
use crate::model::{Connection, Libvirt, MachineName, NamedHost, PoolName};

#[derive(Debug, Clone)]
pub struct Setup {
    pub workspace: Workspace,
    pub connect: Connection,
    /// The host with that libvirt, if the machine or the call names it.
    pub host: Option<NamedHost>,
    pub pool: PoolName,
    /// A flake reference that replaces the locked nixpkgs, if the user gave one.
    pub nixpkgs: Option<String>,
    /// The folder in which a libvirt session's new pools are created.
    pub session_pools: PathBuf,
    pub temporary: PathBuf,
    pub session: Session,
    /// Whether to discard the memory of a saved machine where the command cannot keep it.
    pub discard_saved: bool,
    /// Whether to delete or replace the data of a machine though it is protected.
    pub unprotect: bool,
    /// Whether to wait until another command that works on the same machine has ended.
    pub wait: bool,
    /// For tests of interrupted commands: after how many steps of a plan to get which signal.
    pub die_after: Option<(usize, Signal)>,
    /// The folder for facts about this host that are remembered between calls.
    pub cache: PathBuf,
    /// The folder of this user's own copies of `output/base`.
    pub choices: PathBuf,
}

impl Setup {
    /// Returns what the files of a machine are to say of its libvirt.
    pub fn libvirt(&self) -> Libvirt {
        match &self.host {
            Some(host) => Libvirt::Host(host.name.clone()),
            None => Libvirt::Uri(self.connect.clone()),
        }
    }

    /// Returns whether this is the libvirt that a machine's files name.
    pub fn is_at(&self, libvirt: &Libvirt) -> bool {
        match libvirt {
            Libvirt::Host(name) => self.host.as_ref().is_some_and(|host| host.name == *name),
            Libvirt::Uri(connection) => self.connect == *connection,
        }
    }

    /// Returns a connection to libvirt that can change machines of this workspace only.
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

    /// Checks that the domain of that name, if it is nixvm's, belongs to this workspace.
    pub fn require_own(&self, name: &MachineName) -> Result<()> {
        ownership::require_own(&self.workspace, &self.hypervisor()?, name)
    }
}
