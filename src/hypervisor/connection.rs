//! A connection to libvirt, and what it tells of its host.

use virt::connect::Connect;

use crate::error::{Explain, Failure, Result};
use crate::libvirt::{self, KeepAlive, Say};
use crate::model::domain::Arch;
use crate::model::record::Metadata;
use crate::model::uri::{is_local, is_session};
use crate::model::{MachineId, Size};

/// Refuses a domain, given what it records and its UUID, if its machine is not one of the workspace that nixvm was called in.
pub type Owner = Box<dyn Fn(&Metadata, MachineId) -> Result<()>>;

/// A connection to libvirt's QEMU driver.
pub struct Hypervisor {
    connection: Connect,
    uri: String,
    pub(super) owner: Option<Owner>,
    _alive: KeepAlive,
}

impl Hypervisor {
    /// Returns a connection to the hypervisor at `uri`; `qemu:///system`, for example.
    pub fn open(uri: &str) -> Result<Self> {
        let connection = libvirt::connect(uri)?;
        Ok(Hypervisor { _alive: KeepAlive::of(&connection), connection, uri: uri.to_owned(), owner: None })
    }

    /// Returns the connection for one workspace, whose machines alone can be changed through it.
    #[must_use]
    pub fn of_workspace(self, owner: Owner) -> Self {
        Hypervisor { owner: Some(owner), ..self }
    }

    pub fn connection(&self) -> &Connect {
        &self.connection
    }

    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Returns whether domains run as one user's own processes, without root's rights.
    pub fn is_session(&self) -> bool {
        is_session(&self.uri)
    }

    /// Returns whether domains run on this host.
    pub fn is_local(&self) -> bool {
        is_local(&self.uri)
    }

    pub fn memory(&self) -> Result<Size> {
        let node = self.connection.node_info().say(|| Failure::user("cannot ask libvirt for its memory"))?;
        // In KiB (virNodeInfo).
        Ok(Size::from_bytes(node.memory << 10))
    }

    /// Returns how much memory is available now; `None` for another host.
    ///
    /// This asks the kernel, for libvirt tells only what is free, and not what the kernel would give back from its caches.
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

    /// Returns libvirt's version as a number: 9.2.1 is 9002001.
    pub fn version(&self) -> Result<u32> {
        self.connection.lib_version().say(|| Failure::user("cannot ask libvirt for its version"))
    }

    /// Returns the architecture of the hypervisor's processor.
    ///
    /// # Errors
    /// nixvm builds for no such processor, or libvirt does not answer.
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
