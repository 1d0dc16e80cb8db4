//! How a file becomes a volume that is whole or is not there.
//!
//! libvirt can neither rename a volume nor lock one, an upload can die at any
//! byte, and two nixvms can upload the same base at once. So a volume's first
//! bytes, its header, are the sign that it is whole, and are written last:
//!
//! 1. The file goes into a volume of its own name, `NAME.….part`, but for the first 4 KiB.
//! 2. libvirt copies that to NAME, by reflink where the file system can. libvirt lets only one
//!    process make NAME, lets nobody open it until the copy is done, and syncs a copy to the disk.
//! 3. The first 4 KiB are written to NAME.
//!
//! A volume that begins with zeros is therefore not whole, whatever died and
//! whenever; it is no qcow2 file either, so that no guest could start from it.
//! The next `put` of that name deletes it and begins anew. As step 3 can only
//! reach a copy that is complete, this holds for any number of writers.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use quick_xml::Reader;
use quick_xml::events::Event;
use virt::error::{Error, ErrorNumber};
use virt::storage_vol::StorageVol;
use virt::sys;

use super::Pool;
use super::sparse::{beginning, upload};
use crate::error::{Explain, Failure, Result};
use crate::libvirt::{Say, code};

/// The bytes written last.
const HEAD: u64 = 4096;

/// How often, and how far apart, a volume that another process is making is looked at.
const PATIENCE: (u32, Duration) = (240, Duration::from_millis(500));

/// How many looks in a row must find a volume without its header before it counts as left behind.
const GRACE: u32 = 3;

/// How much longer ago than now a part was last written when its writer is dead: a living one writes all the time.
const STALE: Duration = Duration::from_secs(10 * 60);

/// What `put` had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Nothing: the volume was there, whole.
    Present,
    /// It was uploaded.
    Uploaded,
}

/// How far an upload is, in bytes of the file; holes count as done when they are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

impl Pool {
    /// Stores `source` byte for byte as the volume `name`, unless a whole volume of that name is there.
    ///
    /// Never changes a whole volume: delete it first to replace it. An error that `progress` returns ends the upload,
    /// and nothing is left of it.
    ///
    /// # Errors
    /// The pool has no space, the file cannot be read, libvirt fails, or `progress` refuses to go on.
    pub fn put(
        &self,
        name: &str,
        source: &File,
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Stored> {
        let say = || self.cannot("store", name);
        let metadata = source.metadata().explain(say)?;
        let total = metadata.len();
        if self.settle(name)? {
            return Ok(Stored::Present);
        }
        // The part and its copy; `blocks` are of 512 bytes (stat(2)).
        self.require_space(metadata.blocks() * 512 * 2, name)?;

        let part = Part { pool: self, name: part_name(name) };
        let volume = StorageVol::create_xml(&self.pool, &volume_xml(&part.name, total)?, 0).say(say)?;
        self.sweep(&volume).say(say)?;
        let mut step = |done| progress(Progress { done, total });
        upload(&self.connection, &volume, source, (HEAD, total), &mut step).explain(say)?;
        match self.copy(&volume, name, total) {
            Ok(copy) => {
                let head = upload(&self.connection, &copy, source, (0, HEAD.min(total)), &mut |_| Ok(()));
                if let Err(error) = head {
                    let _ = self.delete(name);
                    return Err(error).explain(say);
                }
                Ok(Stored::Uploaded)
            }
            // Someone else was quicker; libvirt has no code of its own for that here.
            Err(_) if self.settle(name)? => Ok(Stored::Present),
            Err(error) => Err(error).say(say),
        }
    }

    /// Stores `bytes` as [`Pool::put`] does a file. They touch no disk of this host on their way.
    ///
    /// # Errors
    /// As [`Pool::put`].
    pub fn put_bytes(&self, name: &str, bytes: &[u8]) -> Result<Stored> {
        let memory = || Failure::user("cannot hold an image in memory");
        let fd = rustix::fs::memfd_create("nixvm", rustix::fs::MemfdFlags::CLOEXEC).explain(memory)?;
        let mut file = File::from(fd);
        file.write_all(bytes).explain(memory)?;
        self.put(name, &file, &mut |_| Ok(()))
    }

    /// Returns whether the volume is there and whole.
    ///
    /// # Errors
    /// libvirt does not answer.
    pub fn is_whole(&self, name: &str) -> Result<bool> {
        self.look(name).say(|| self.cannot("look at", name)).map(|seen| seen == Seen::Whole)
    }

    /// Returns whether the volume is there and whole; deletes one that is not, and waits for one being made.
    fn settle(&self, name: &str) -> Result<bool> {
        let say = || self.cannot("store", name);
        let mut partial = 0;
        for _ in 0..PATIENCE.0 {
            match self.look(name).say(say)? {
                Seen::Whole => return Ok(true),
                Seen::Missing => return Ok(false),
                Seen::Busy => partial = 0,
                Seen::Partial => partial += 1,
            }
            // A living writer has the header in place a moment after the copy.
            if partial > GRACE {
                match self.delete_raw(name) {
                    Ok(_) => return Ok(false),
                    Err(error) if busy(&error) => partial = 0,
                    Err(error) => return Err(error).say(say),
                }
            }
            std::thread::sleep(PATIENCE.1);
        }
        Err(say().because(Failure::user("another process has been making it for two minutes")).into())
    }

    fn look(&self, name: &str) -> std::result::Result<Seen, Error> {
        let Some(volume) = self.volume(name)? else { return Ok(Seen::Missing) };
        match beginning(&self.connection, &volume, HEAD as usize) {
            Ok(bytes) if bytes.iter().any(|&byte| byte != 0) => Ok(Seen::Whole),
            Ok(_) => Ok(Seen::Partial),
            Err(error) if busy(&error) => Ok(Seen::Busy),
            Err(error) if code(&error) == Some(ErrorNumber::NoStorageVolume) => Ok(Seen::Missing),
            Err(error) => Err(error),
        }
    }

    fn copy(&self, part: &StorageVol, name: &str, length: u64) -> std::result::Result<StorageVol, Error> {
        let xml = volume_xml(name, length).unwrap_or_default();
        match StorageVol::create_xml_from(&self.pool, &xml, part, sys::VIR_STORAGE_VOL_CREATE_REFLINK) {
            Err(error) if code(&error) == Some(ErrorNumber::SystemError) => {
                StorageVol::create_xml_from(&self.pool, &xml, part, 0)
            }
            made => made,
        }
    }

    /// Deletes the parts that uploads left behind which were killed, given one that was just made.
    ///
    /// Their ages are told by the pool's own clock, which need not be this host's.
    fn sweep(&self, newest: &StorageVol) -> std::result::Result<(), Error> {
        let Some(now) = written(&newest.xml_desc(0)?) else { return Ok(()) };
        for volume in self.pool.list_all_volumes(0)? {
            if !volume.name()?.ends_with(PART) {
                continue;
            }
            let then = volume.xml_desc(0).unless(ErrorNumber::NoStorageVolume)?.and_then(|xml| written(&xml));
            if then.is_some_and(|then| now.saturating_sub(then) > STALE.as_secs()) {
                volume.delete(0).unless(ErrorNumber::NoStorageVolume)?;
            }
        }
        Ok(())
    }
}

#[derive(PartialEq, Eq)]
enum Seen {
    Missing,
    Busy,
    Partial,
    Whole,
}

/// Returns whether libvirt refuses because it is making the volume.
fn busy(error: &Error) -> bool {
    code(error) == Some(ErrorNumber::OperationInvalid)
}

/// A volume that is deleted when done with.
struct Part<'a> {
    pool: &'a Pool,
    name: String,
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        // Swept later if this fails.
        let _ = self.pool.delete(&self.name);
    }
}

/// How the names of parts end.
const PART: &str = ".part";

fn part_name(name: &str) -> String {
    format!("{name}.{}{PART}", uuid::Uuid::new_v4().simple())
}

/// Returns when a volume was last written, in seconds of its host's clock, from its XML.
fn written(xml: &str) -> Option<u64> {
    let mut reader = Reader::from_str(xml);
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) if element.name().as_ref() == b"mtime" => {
                let text = reader.read_text(element.name()).ok()?;
                return text.split('.').next()?.trim().parse().ok();
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// Returns a raw, empty volume of that length, readable by its owner alone: an identity volume holds secrets.
fn volume_xml(name: &str, length: u64) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(Failure::bug(format!("`{name}` is no volume's name")).into());
    }
    Ok(format!(
        "<volume>
  <name>{name}</name>
  <capacity unit='bytes'>{length}</capacity>
  <allocation unit='bytes'>0</allocation>
  <target>
    <format type='raw'/>
    <permissions><mode>0600</mode></permissions>
  </target>
</volume>
"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_last_write_is_read_from_a_volumes_xml() {
        let xml = "<volume type='file'><name>mtime</name><target><timestamps><atime>1.5</atime>\
                   <mtime>1795392576.123456789</mtime><ctime>3</ctime></timestamps></target></volume>";
        assert_eq!(written(xml), Some(1_795_392_576));
        assert_eq!(written("<volume><name>x</name></volume>"), None);
    }

    #[test]
    fn a_name_cannot_leave_its_element_or_the_pool() {
        assert!(volume_xml("web.boot-1.qcow2", 1).unwrap().contains("<name>web.boot-1.qcow2</name>"));
        for name in ["", "a/b", "a<b", "a b", "a&b", "\u{e4}"] {
            assert!(volume_xml(name, 1).is_err(), "{name}");
        }
    }
}
