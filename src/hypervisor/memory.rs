//! How much a running guest has of what it was started with.

use super::Owned;
use crate::error::Result;
use crate::libvirt::{self, Say};
use crate::model::Size;

/// What a running guest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveSize {
    /// The memory that it may use now.
    pub memory: Size,
    /// The memory that it was started with; it can have no more.
    pub most_memory: Size,
    /// Its processors.
    pub vcpus: u32,
}

impl Owned {
    /// Returns what the guest has; of one that is off, what it would have.
    ///
    /// # Errors
    /// libvirt does not answer, or the domain is gone.
    pub fn live_size(&self) -> Result<LiveSize> {
        let info = self.domain.info().say(|| self.cannot("look at"))?;
        let size = |kib: u64| Size::from_bytes(kib << 10);
        Ok(LiveSize { memory: size(info.memory), most_memory: size(info.max_mem), vcpus: info.nr_virt_cpu })
    }

    /// Has the running guest make do with that much memory, or lets it use that much again.
    ///
    /// The balloon in the guest does it, as far and as fast as the guest can spare it.
    ///
    /// # Errors
    /// The machine is off, was started with less, or libvirt does not answer.
    pub fn set_live_memory(&self, memory: Size) -> Result<()> {
        libvirt::set_live_memory(&self.domain, memory.bytes() >> 10)
            .say(|| self.cannot("change the memory of"))
    }
}
