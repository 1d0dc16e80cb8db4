//! Empty qcow2 volumes: overlays, and targets of backups.
//!
//! `qemu-img` makes them on this host and [`Pool::put`] stores them. libvirt would
//! run it on its own host, where everybody can open the file until its mode is set,
//! and could read through that handle what a guest writes there later.

use std::os::fd::AsRawFd;

use super::Pool;
use super::put::{Stored, file_in_memory};
use super::xml::check_name;
use crate::error::{Explain, Failure, Result};
use crate::exec::Command;

impl Pool {
    /// Makes the volume `name` as an empty overlay of the volume `on`, unless it exists.
    ///
    /// `on` must no longer be written. It is named without a folder, so that a pool can be moved.
    ///
    /// # Errors
    /// The volume exists with another backing file, `on` or `qemu-img` is missing, or libvirt fails.
    pub fn overlay(&self, name: &str, on: &str) -> Result<Stored> {
        let capacity = self.chain(on)?.first().map_or(0, |link| link.capacity);
        self.make(name, capacity, Some(on))
    }

    /// Makes the empty volume `name` of that capacity, unless it exists.
    ///
    /// # Errors
    /// The volume exists and has a backing file, `qemu-img` is missing, or libvirt fails.
    pub fn blank(&self, name: &str, capacity: u64) -> Result<Stored> {
        self.make(name, capacity, None)
    }

    /// Makes the empty volume `name` for a copy of the disk in the volume `of`; returns the paths of `of` and of `name` on the
    /// pool's host. With `whole`, checks that the pool has space for all of it.
    pub fn blank_for(&self, name: &str, of: &str, whole: bool) -> Result<[String; 2]> {
        let chain = self.chain(of)?;
        if whole {
            let bytes = chain.iter().map(|link| link.allocation).sum();
            self.require_space(bytes, "the copy of its data")?;
        }
        self.blank(name, chain.first().map_or(0, |link| link.capacity))?;
        let folder = self.path()?;
        Ok([of, name].map(|name| format!("{folder}/{name}")))
    }

    fn make(&self, name: &str, capacity: u64, on: Option<&str>) -> Result<Stored> {
        let say = || self.cannot("make", name);
        [Some(name), on].into_iter().flatten().try_for_each(check_name)?;
        let image = file_in_memory()?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), image.as_raw_fd());
        create(&path, capacity, on).output().explain(say)?;
        let stored = self.put(name, &image, &mut |_| Ok(()))?;
        if stored == Stored::Present {
            self.check_lies_on(name, on)?;
        }
        Ok(stored)
    }

    fn check_lies_on(&self, name: &str, on: Option<&str>) -> Result<()> {
        let chain = self.chain(name)?;
        let below = chain.get(1).map(|link| link.volume.as_str());
        if below == on {
            return Ok(());
        }
        let is = below.map_or("on no other".to_owned(), |below| format!("on `{below}`"));
        Err(self
            .cannot("make", name)
            .because(Failure::user(format!("there is one, and it lies {is}")))
            .into())
    }
}

/// Version 3 of the format: older ones hold no bitmaps, which incremental backups need.
fn create(path: &str, capacity: u64, on: Option<&str>) -> Command {
    let mut command = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2", "-o", "compat=1.1"]);
    if let Some(on) = on {
        // `-u`: do not look at it; it is not on this host.
        command = command.args(["-u", "-F", "qcow2", "-b", on]);
    }
    command.arg(path).arg(capacity.to_string()).missing("install qemu-img (`nixvm doctor` says how)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_names_what_it_lies_on_without_a_folder() {
        let words = |command: Command| {
            command
                .argv()
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let start = "qemu-img create -q -f qcow2 -o compat=1.1";
        assert_eq!(words(create("/x", 7, None)), format!("{start} /x 7"));
        assert_eq!(words(create("/x", 7, Some("a"))), format!("{start} -u -F qcow2 -b a /x 7"));
    }
}
