//! A volume from bytes that come one after another and are kept nowhere else, as [`Pool::put`] makes one of a file.

use std::io::Read;

use virt::storage_vol::StorageVol;
use virt::stream::Stream;
use virt::sys;

use super::Pool;
use super::put::{HEAD, Part, Stored};
use super::sparse::{CHUNK, send_all};
use super::xml::volume_xml;
use crate::error::{Explain, Failure, Result};
use crate::libvirt::{Say, send_hole};
use crate::model::{Progress, qcow2};

/// A qcow2 file that comes byte by byte.
pub struct Incoming<'a> {
    /// Its bytes, which are read once.
    pub bytes: &'a mut dyn Read,
    /// How many they are.
    pub length: u64,
    /// The name of the volume that it is to lie on; its header names none.
    pub on: Option<&'a str>,
}

impl Pool {
    /// Stores a qcow2 file as the volume `name`, unless a whole volume of that name is there.
    ///
    /// An error of `incoming`, and one that `progress` returns, ends the upload, and nothing is left of it.
    ///
    /// # Errors
    /// The pool has no space, the bytes cannot be read, are another number or no qcow2 file where it is to lie on another,
    /// libvirt fails, or `progress` refuses to go on.
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
        let part = Part::of(self, name);
        let volume =
            StorageVol::create_xml(&self.pool, &volume_xml(&part.name, incoming.length)?, 0).say(say)?;
        self.sweep(&volume).say(say)?;
        self.fill(&volume, &mut incoming, progress).explain(say)?;
        self.complete(&volume, name, incoming.length, &head)
    }

    /// Writes all that comes behind the header into the volume at its place.
    fn fill(
        &self,
        volume: &StorageVol,
        incoming: &mut Incoming<'_>,
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<()> {
        if incoming.length <= HEAD {
            return Ok(());
        }
        let stream = Stream::new(&self.connection, 0).said()?;
        let flags = sys::VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM;
        volume.upload(&stream, HEAD, incoming.length - HEAD, flags).said()?;
        match send(&stream, incoming, progress) {
            // The other side's last errors, a full disk among them, come with this.
            Ok(()) => stream.finish().said(),
            Err(error) => {
                // Else the daemon would keep the stream open as long as the connection.
                let _ = stream.abort();
                Err(error)
            }
        }
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
        if chunk.iter().all(|&byte| byte == 0) {
            send_hole(stream, chunk.len() as u64).said()?;
        } else {
            send_all(stream, chunk)?;
        }
        done += length as u64;
    }
    progress(Progress { done, total })
}
