//! A volume from a stream of bytes, made as [`Pool::put`] makes one from a file.

use std::io::Read;

use virt::storage_vol::StorageVol;
use virt::stream::Stream;

use super::Pool;
use super::put::{HEAD, PartVolume, Stored};
use super::sparse::{CHUNK, close, receiver, send_chunk};
use crate::error::{Explain, Failure, Result};
use crate::libvirt::Say;
use crate::model::{Progress, qcow2};

/// A qcow2 file that is read once, from its beginning.
pub struct Incoming<'a> {
    pub bytes: &'a mut dyn Read,
    pub length: u64,
    /// The volume that becomes its backing file; its own header names none.
    pub on: Option<&'a str>,
}

impl Pool {
    /// Stores a qcow2 file as the volume `name`, unless a whole volume of that name exists.
    ///
    /// After an error, one of `incoming` or `progress` among them, nothing is left of the upload.
    pub fn pour(
        &self,
        name: &str,
        mut incoming: Incoming<'_>,
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<Stored> {
        let say = || self.cannot("store", name);
        if self.settle(name)? {
            return Ok(Stored::Present);
        }
        // The part and its copy.
        self.require_space(incoming.length.saturating_mul(2), name)?;
        let mut head = Vec::new();
        (&mut incoming.bytes).take(HEAD.min(incoming.length)).read_to_end(&mut head).explain(say)?;
        if let Some(on) = incoming.on {
            self.chain(on)?;
            qcow2::set_backing(&mut head, on).explain(say)?;
        }
        let (_part, volume) = PartVolume::make(self, name, incoming.length, say)?;
        self.sweep(&volume).say(say)?;
        self.fill(&volume, &mut incoming, progress).explain(say)?;
        self.complete(&volume, name, incoming.length, &head)
    }

    /// Writes everything behind the header into the volume at the same place.
    fn fill(
        &self,
        volume: &StorageVol,
        incoming: &mut Incoming<'_>,
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<()> {
        if incoming.length <= HEAD {
            return Ok(());
        }
        let stream = receiver(&self.connection, volume, (HEAD, incoming.length))?;
        let sent = send(&stream, incoming, progress);
        close(stream, sent)
    }
}

fn send(
    stream: &Stream,
    incoming: &mut Incoming<'_>,
    progress: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<()> {
    let total = incoming.length;
    let mut buffer = vec![0; CHUNK];
    let mut done = HEAD;
    while done < total {
        progress(Progress { done, total })?;
        let wanted = buffer.len().min(usize::try_from(total - done).unwrap_or(usize::MAX));
        let length = incoming.bytes.read(&mut buffer[..wanted])?;
        let chunk = &buffer[..length];
        if chunk.is_empty() {
            return Err(Failure::user(format!("it ends after {done} of {total} bytes")).into());
        }
        send_chunk(stream, chunk)?;
        done += length as u64;
    }
    progress(Progress { done, total })
}
