//! Uploads to and downloads from volumes over libvirt's streams, without sending holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use virt::connect::Connect;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;
use virt::sys;

use crate::error::{Explain, Failure, Result};
use crate::interrupt;
use crate::libvirt::{Answer, Received, Say, receive, send_hole};

use super::Pool;

/// Bytes of one message that every version of libvirt accepts (VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX, src/rpc/virnetprotocol.x).
pub(super) const CHUNK: usize = 262_120;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    Data(&'a [u8]),
    /// This many zeros, which were not sent.
    Hole(u64),
}

impl Pool {
    /// Passes the volume's file from the byte at `start` on to `take`; returns the number of bytes.
    pub fn read_from(
        &self,
        volume: &str,
        start: u64,
        take: &mut dyn FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<u64> {
        let say = || self.cannot("read", volume);
        let found = self.pool.lookup_storage_vol_by_name(volume).say(say)?;
        let stream = download(&self.connection, &found, start).explain(say)?;
        let received = receive_all(&stream, take);
        close(stream, received).explain(say)
    }
}

/// Returns a stream that sends the volume's file from the byte at `start` on, without its holes.
pub(super) fn download(connection: &Connect, volume: &StorageVol, start: u64) -> Result<Stream> {
    let stream = Stream::new(connection, 0).said()?;
    let flags = sys::VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM;
    volume.download(&stream, start, 0, flags).said()?;
    Ok(stream)
}

fn receive_all(stream: &Stream, take: &mut dyn FnMut(Piece<'_>) -> Result<()>) -> Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut length = 0;
    loop {
        interrupt::check()?;
        let piece = match receive(stream, &mut buffer).said()? {
            Received::Data(filled) => Piece::Data(buffer.get(..filled).unwrap_or_default()),
            Received::Hole(hole) => Piece::Hole(hole),
            Received::End => return Ok(length),
        };
        length += match piece {
            Piece::Data(bytes) => bytes.len() as u64,
            Piece::Hole(hole) => hole,
        };
        take(piece)?;
    }
}

/// Closes a stream on which `done` was done.
///
/// Only finishing it reports the other side's last errors, such as a full disk or a file that cannot be read to its end.
/// Without aborting it after an error, the daemon would keep it open as long as the connection.
pub(super) fn close<T>(stream: Stream, done: Result<T>) -> Result<T> {
    match done {
        Ok(value) => stream.finish().said().map(|()| value),
        Err(error) => {
            let _ = stream.abort();
            Err(error)
        }
    }
}

/// Writes `source` from `start` up to `end` into the volume at the same place.
///
/// `progress` is given the number of bytes done, and ends the upload by an error.
pub(super) fn upload(
    connection: &Connect,
    volume: &StorageVol,
    source: &File,
    (start, end): (u64, u64),
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    if start >= end {
        return Ok(());
    }
    let stream = receiver(connection, volume, (start, end))?;
    let sent = send(&stream, source, (start, end), progress);
    close(stream, sent)
}

/// Returns a stream that writes what is sent into the volume from `start` up to `end`, and skips the holes.
pub(super) fn receiver(
    connection: &Connect,
    volume: &StorageVol,
    (start, end): (u64, u64),
) -> Result<Stream> {
    let stream = Stream::new(connection, 0).said()?;
    let flags = sys::VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM;
    volume.upload(&stream, start, end - start, flags).said()?;
    Ok(stream)
}

/// Overwrites the volume's first bytes, also with zeros, for which a sparse upload would leave the old bytes.
pub(super) fn overwrite(connection: &Connect, volume: &StorageVol, bytes: &[u8]) -> Result<()> {
    let stream = Stream::new(connection, 0).said()?;
    volume.upload(&stream, 0, bytes.len() as u64, 0).said()?;
    let sent = send_all(&stream, bytes);
    close(stream, sent)
}

fn send(
    stream: &Stream,
    source: &File,
    (start, end): (u64, u64),
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let unreadable = || Failure::user("cannot read the image");
    let mut buffer = vec![0; CHUNK];
    let mut at = start;
    while at < end {
        progress(at)?;
        let data = next_data(source, at).explain(unreadable)?.map_or(end, |data| data.min(end));
        if data > at {
            send_hole(stream, data - at).said()?;
            at = data;
            continue;
        }
        let wanted = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let length = source.read_at(&mut buffer[..wanted], at).explain(unreadable)?;
        let chunk = &buffer[..length];
        if chunk.is_empty() {
            return Err(unreadable().because(Failure::user("it became shorter meanwhile")).into());
        }
        send_chunk(stream, chunk)?;
        at += length as u64;
    }
    progress(end)
}

/// Sends some bytes, or a hole for zeros: a file from an archive has zeros where it once had holes.
pub(super) fn send_chunk(stream: &Stream, chunk: &[u8]) -> Result<()> {
    if chunk.iter().all(|&byte| byte == 0) {
        return send_hole(stream, chunk.len() as u64).said();
    }
    send_all(stream, chunk)
}

fn send_all(stream: &Stream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let length = stream.send(bytes).said()?;
        bytes = bytes.get(length.unsigned_abs()..).unwrap_or_default();
    }
    Ok(())
}

/// Returns the first place at or after `at` that holds data; `None` if only a hole is left.
fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(Some(data)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        // A file system that knows no holes.
        Err(rustix::io::Errno::INVAL) => Ok(Some(at)),
        Err(error) => Err(error.into()),
    }
}

/// Returns the volume's first `length` bytes, or fewer if it is shorter.
pub(super) fn beginning(connection: &Connect, volume: &StorageVol, length: usize) -> Answer<Vec<u8>> {
    let stream = Stream::new(connection, 0)?;
    volume.download(&stream, 0, length as u64, 0)?;
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.recv(rest)? {
            0 => break,
            more => filled += more.unsigned_abs(),
        }
    }
    bytes.truncate(filled);
    // All bytes have arrived, so an error at the end does not matter.
    let _ = stream.finish();
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_found() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"data", 32 << 20).unwrap();
        let first = next_data(&file, 0).unwrap().unwrap();
        // A file system may see data in whole blocks only, or know no holes at all.
        assert!(first <= 32 << 20);
        assert_eq!(next_data(&file, 32 << 20).unwrap(), Some(32 << 20));
    }
}
