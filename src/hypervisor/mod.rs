//! The computer that runs machines, seen through libvirt.
//!
//! [`Hypervisor`] finds domains and defines them. What changes one is a method
//! of [`Owned`], which exists only for a domain that carries nixvm's metadata:
//! nixvm cannot touch any other.

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

use crate::error::{Failure, Result};
use crate::libvirt::{self, KeepAlive, Say};
use crate::model::domain::Arch;

pub use accelerator::Probe;
pub use agent::{AgentOutput, Frozen};
pub use backup::BackupRequest;
pub use block::{Merged, Paused};
pub use confinement::Confinement;
pub use console::ConsoleEnd;
pub use definition::{BOOT, DATA, Definition, Disk, IDENTITY};
pub use domain::Observed;
pub use memory::LiveSize;
pub use network::Ensured;
pub use owned::{Ended, Owned};
pub use snapshot::Switched;

pub use crate::libvirt::Remote;

/// A connection to libvirt's QEMU driver.
pub struct Hypervisor {
    connection: Connect,
    uri: String,
    _alive: KeepAlive,
}

impl Hypervisor {
    /// Returns a connection to the hypervisor at `uri`; `qemu:///system`, for example.
    ///
    /// # Errors
    /// libvirt is not there, does not answer, or does not let this user in.
    pub fn open(uri: &str) -> Result<Self> {
        let connection = libvirt::connect(uri)?;
        Ok(Hypervisor { _alive: KeepAlive::of(&connection), connection, uri: uri.to_owned() })
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
        libvirt::is_session(&self.uri)
    }

    /// Returns whether domains run on this host.
    pub fn is_local(&self) -> bool {
        libvirt::is_local(&self.uri)
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
