//! The computer that runs machines, seen through libvirt.
//!
//! [`Hypervisor`] finds domains and defines them. What changes one is a method
//! of [`Owned`], which exists only for a domain that carries nixvm's metadata
//! and is a machine of the workspace that nixvm was called in: it cannot touch
//! any other. What looks at one is a method of [`Seen`].

mod accelerator;
mod address;
mod agent;
mod backup;
mod block;
mod confinement;
mod console;
mod copier;
mod definition;
mod domain;
mod edits;
mod exchange;
mod files;
mod memory;
mod metadata;
mod network;
mod owned;
mod rename;
mod snapshot;
#[cfg(test)]
mod trials;

use virt::connect::Connect;

use crate::error::{Explain, Failure, Result};
use crate::libvirt::{self, KeepAlive, Say};
use crate::model::domain::Arch;
use crate::model::record::Metadata;
use crate::model::uri;
use crate::model::{MachineId, Size};

pub use accelerator::Probe;
pub use agent::{AgentOutput, Frozen};
pub use backup::{BackupRequest, CHECKPOINTS, is_own_checkpoint};
pub use block::{Merged, Paused};
pub use confinement::Confinement;
pub use console::ConsoleEnd;
pub use definition::{BOOT, DATA, Definition, Disk, IDENTITY};
pub use domain::Observed;
pub use memory::LiveSize;
pub use network::{Ensured, VirtualNetwork};
pub use owned::{Ended, Owned, Seen};
pub use snapshot::Switched;

/// Refuses the machine that a domain records, if it is not of the workspace that nixvm was called in; given the domain's UUID.
pub type Owner = Box<dyn Fn(&Metadata, MachineId) -> Result<()>>;

/// A connection to libvirt's QEMU driver.
pub struct Hypervisor {
    connection: Connect,
    uri: String,
    owner: Option<Owner>,
    _alive: KeepAlive,
}

impl Hypervisor {
    /// Returns a connection to the hypervisor at `uri`; `qemu:///system`, for example.
    ///
    /// # Errors
    /// libvirt is not there, does not answer, or does not let this user in.
    pub fn open(uri: &str) -> Result<Self> {
        let connection = libvirt::connect(uri)?;
        Ok(Hypervisor { _alive: KeepAlive::of(&connection), connection, uri: uri.to_owned(), owner: None })
    }

    /// Returns the connection for one workspace, whose machines alone can be changed through it.
    #[must_use]
    pub fn of_workspace(self, owner: Owner) -> Self {
        Hypervisor { owner: Some(owner), ..self }
    }

    /// Returns the connection, for what works on storage.
    pub fn connection(&self) -> &Connect {
        &self.connection
    }

    /// Returns the URI it was opened with.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Returns whether domains run as one user's own processes, without root's rights.
    pub fn is_session(&self) -> bool {
        uri::is_session(&self.uri)
    }

    /// Returns whether domains run on this host.
    pub fn is_local(&self) -> bool {
        uri::is_local(&self.uri)
    }

    /// Returns the memory of the hypervisor's computer.
    ///
    /// # Errors
    /// libvirt does not answer.
    pub fn memory(&self) -> Result<Size> {
        let node = self.connection.node_info().say(|| Failure::user("cannot ask libvirt for its memory"))?;
        // In KiB (virNodeInfo).
        Ok(Size::from_bytes(node.memory << 10))
    }

    /// Returns how much of it can be had now; `None` where another host would have to be asked.
    ///
    /// libvirt tells what is free, and leaves out what the kernel would give back from its caches.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn available_memory(&self) -> Result<Option<Size>> {
        if !self.is_local() {
            return Ok(None);
        }
        let text = std::fs::read_to_string("/proc/meminfo")
            .explain(|| Failure::user("cannot read /proc/meminfo"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.map(|kib| Size::from_bytes(kib << 10)))
    }

    /// Returns libvirt's version, as libvirt counts them: 9.2.1 is 9002001.
    ///
    /// # Errors
    /// libvirt does not answer.
    pub fn version(&self) -> Result<u32> {
        self.connection.lib_version().say(|| Failure::user("cannot ask libvirt for its version"))
    }

    /// Returns the architecture of the hypervisor's processor.
    ///
    /// # Errors
    /// It is none that nixvm builds for, or libvirt does not answer.
    pub fn arch(&self) -> Result<Arch> {
        let node =
            self.connection.node_info().say(|| Failure::user("cannot ask libvirt for its processor"))?;
        Arch::from_name(&node.model).ok_or_else(|| {
            Failure::user(format!("the hypervisor's processor is `{}`", node.model))
                .hint("nixvm builds for x86_64 and aarch64")
                .into()
        })
    }
}

/// Returns the text as it may stand in XML's text and attributes.
fn escape(text: &str) -> std::borrow::Cow<'_, str> {
    quick_xml::escape::escape(text)
}
