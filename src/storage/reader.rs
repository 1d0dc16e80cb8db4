//! A volume's file, read as any other.

use std::io::{self, Read};

use virt::storage_vol::StorageVol;
use virt::stream::Stream;
use virt::sys;

use super::Pool;
use super::xml::length;
use crate::error::{Explain, Failure, Result};
use crate::libvirt::{Received, Say, receive, said};

/// The bytes of a volume's file, from its beginning; holes read as zeros and are not sent.
pub struct VolumeReader {
    /// `None` behind the end.
    stream: Option<Stream>,
    length: u64,
    hole: u64,
}

impl Pool {
    /// Returns the volume's file for reading.
    ///
    /// # Errors
    /// There is no such volume, or libvirt does not answer.
    pub fn reader(&self, volume: &str) -> Result<VolumeReader> {
        let say = || self.cannot("read", volume);
        self.refresh()?;
        let found = self.pool.lookup_storage_vol_by_name(volume).say(say)?;
        let length = length(&found.xml_desc(0).say(say)?)
            .ok_or_else(|| say().because(Failure::user("libvirt does not say how long it is")))?;
        let stream = self.open(&found).explain(say)?;
        Ok(VolumeReader { stream: Some(stream), length, hole: 0 })
    }

    fn open(&self, volume: &StorageVol) -> Result<Stream> {
        let stream = Stream::new(&self.connection, 0).map_err(|error| said(&error))?;
        let flags = sys::VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM;
        volume.download(&stream, 0, 0, flags).map_err(|error| said(&error))?;
        Ok(stream)
    }
}

impl VolumeReader {
    /// Returns the length of the file, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    fn zeros(&mut self, buffer: &mut [u8]) -> usize {
        let length = buffer.len().min(usize::try_from(self.hole).unwrap_or(usize::MAX));
        buffer.iter_mut().take(length).for_each(|byte| *byte = 0);
        self.hole -= length as u64;
        length
    }
}

impl Read for VolumeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.hole > 0 || buffer.is_empty() {
                return Ok(self.zeros(buffer));
            }
            let Some(stream) = &self.stream else { return Ok(0) };
            match receive(stream, buffer).map_err(|error| io::Error::other(said(&error)))? {
                Received::Data(length) => return Ok(length),
                Received::Hole(length) => self.hole = length,
                Received::End => {
                    // A file that libvirt could not read to its end is told only here.
                    let finished = self.stream.take().map_or(Ok(()), Stream::finish);
                    finished.map_err(|error| io::Error::other(said(&error)))?;
                }
            }
        }
    }
}

impl Drop for VolumeReader {
    fn drop(&mut self) {
        // Else the daemon would keep the stream open as long as the connection.
        let _ = self.stream.take().map(Stream::abort);
    }
}
