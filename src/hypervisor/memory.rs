//! The memory and processors of a running guest.

use super::Owned;
use crate::error::Result;
use crate::libvirt::{self, Say};
use crate::model::Size;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveSize {
    /// The memory that the guest may use now.
    pub memory: Size,
    /// The memory that the guest was started with: the most that it can have.
    pub most_memory: Size,
    pub vcpus: u32,
}

impl Owned {
    /// Returns the sizes of the guest; those of its next start if it is off.
    pub fn live_size(&self) -> Result<LiveSize> {
        let info = self.domain.info().say(|| self.cannot("look at"))?;
        let size = |kib: u64| Size::from_bytes(kib << 10);
        Ok(LiveSize { memory: size(info.memory), most_memory: size(info.max_mem), vcpus: info.nr_virt_cpu })
    }

    /// Changes how much memory the running guest may use, up to what it was started with.
    ///
    /// The balloon in the guest takes memory away as far and as fast as the guest can spare it.
    pub fn set_live_memory(&self, memory: Size) -> Result<()> {
        libvirt::set_live_memory(&self.domain, memory.bytes() >> 10)
            .say(|| self.cannot("change the memory of"))
    }
}
