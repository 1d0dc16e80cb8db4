//! A volume's file as a reader.

use std::io::{self, Read};

use virt::storage_vol::StorageVol;
use virt::stream::Stream;

use super::Pool;
use super::put::HEAD;
use super::sparse::{beginning, download};
use super::xml::{length, stamp};
use crate::error::{Explain, Failure, Result};
use crate::libvirt::{Received, Say, receive};
use crate::model::qcow2;

/// The bytes of a volume's file, from its beginning. Holes read as zeros and are not sent.
pub struct VolumeReader {
    /// `None` after the end.
    stream: Option<Stream>,
    length: u64,
    hole: u64,
    /// The stamp that the volume must still have at the end.
    still: Option<(StorageVol, Stamp)>,
}

/// This many bytes of holes are never too many: the file of a small disk has some between its tables.
const HOLES: u64 = 16 << 20;

/// A mark of a volume's file that changes whenever the file is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp([String; 3]);

impl Pool {
    pub fn reader(&self, volume: &str) -> Result<VolumeReader> {
        self.open(volume).map(|(reader, _)| reader)
    }

    /// Returns whether there is such a volume and its file consists of those bytes.
    pub fn holds(&self, volume: &str, bytes: &[u8]) -> Result<bool> {
        if !self.is_whole(volume)? {
            return Ok(false);
        }
        let mut reader = self.reader(volume)?;
        if reader.length() != bytes.len() as u64 {
            return Ok(false);
        }
        let mut found = Vec::with_capacity(bytes.len());
        reader.read_to_end(&mut found).explain(|| self.cannot("read", volume))?;
        Ok(found == bytes)
    }

    /// Returns the present mark of the volume's file, for [`Pool::still_reader`].
    pub fn stamp(&self, volume: &str) -> Result<Stamp> {
        let say = || self.cannot("look at", volume);
        let found = self.pool.lookup_storage_vol_by_name(volume).say(say)?;
        let xml = found.xml_desc(0).say(say)?;
        let silent = || Failure::user("libvirt does not say when it was last written");
        stamp(&xml).map(Stamp).ok_or_else(|| say().because(silent()).into())
    }

    /// Returns the volume's file for reading. At its end the reader fails if anything wrote to the file after the stamp was
    /// taken.
    ///
    /// This shows nothing about earlier writes: the file may have been half written when the stamp was taken.
    pub fn still_reader(&self, volume: &str, stamp: Stamp) -> Result<VolumeReader> {
        let (mut reader, found) = self.open(volume)?;
        reader.still = Some((found, stamp));
        Ok(reader)
    }

    /// Returns whether the volume's file is as good as a copy of its disk: a qcow2 file without a backing file, with nothing
    /// else in it, and with few holes.
    pub fn is_compact(&self, volume: &str) -> Result<bool> {
        let say = || self.cannot("look at", volume);
        let found = self.pool.lookup_storage_vol_by_name(volume).say(say)?;
        let (info, xml) = (found.info().say(say)?, found.xml_desc(0).say(say)?);
        let head = beginning(&self.connection, &found, HEAD as usize).say(say)?;
        let dense = length(&xml).is_some_and(|length| length <= info.allocation / 4 * 5 + HOLES);
        Ok(dense && qcow2::is_plain(&head))
    }

    fn open(&self, volume: &str) -> Result<(VolumeReader, StorageVol)> {
        let say = || self.cannot("read", volume);
        let found = self.pool.lookup_storage_vol_by_name(volume).say(say)?;
        let length = length(&found.xml_desc(0).say(say)?)
            .ok_or_else(|| say().because(Failure::user("libvirt does not say how long it is")))?;
        let stream = download(&self.connection, &found, 0).explain(say)?;
        Ok((VolumeReader { stream: Some(stream), length, hole: 0, still: None }, found))
    }
}

impl VolumeReader {
    pub fn length(&self) -> u64 {
        self.length
    }

    fn end(&mut self) -> Result<()> {
        // Only this reports a file that libvirt could not read to its end.
        self.stream.take().map_or(Ok(()), Stream::finish).said()?;
        let Some((volume, before)) = &self.still else { return Ok(()) };
        let xml = volume.xml_desc(0).said()?;
        if stamp(&xml).as_ref() == Some(&before.0) {
            return Ok(());
        }
        Err(Failure::user("it was written while it was read").into())
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
            match receive(stream, buffer).said().map_err(io::Error::other)? {
                Received::Data(length) => return Ok(length),
                Received::Hole(length) => self.hole = length,
                Received::End => self.end().map_err(io::Error::other)?,
            }
        }
    }
}

impl Drop for VolumeReader {
    fn drop(&mut self) {
        // Without this the daemon would keep the stream open as long as the connection.
        let _ = self.stream.take().map(Stream::abort);
    }
}
