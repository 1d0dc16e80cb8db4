//! Compresses into zstd frames, several at a time.
//!
//! zstd's own threads copy their input, take twice the memory, and read the end of each piece again. Independent frames need
//! none of that and cost a few hundredths of the size. zstd(1) takes them for one stream (RFC 8878, 3.1).

use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, available_parallelism};

use rustix::fs::{Advice, fadvise};
use sha2::{Digest, Sha256};
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, compress_bound};

use crate::error::{Explain, Failure, Result};

/// zstd's own default.
const LEVEL: i32 = 3;

/// Bytes of a frame before compression.
///
/// Larger frames take more memory than a command may have: each thread needs 2.4 MiB, of which 1 MiB is for a frame before
/// and after compression; libvirt's libraries alone take 20 MiB.
const FRAME: usize = 512 << 10;

/// Most threads that compress. More exceed the memory budget, and three keep up with one stream of libvirt's and its digest.
const MOST_THREADS: usize = 3;

/// Bytes after which the kernel is asked to write them to the disk, so that the disk is not idle until the end.
const STRIDE: u64 = 8 << 20;

/// Compresses the bytes that `fill` puts in and writes them to the file from the byte at `start` on. Returns the value of
/// `fill` and the digest of the written bytes.
pub(super) fn compress<T>(
    to: &File,
    start: u64,
    cannot: impl Fn() -> Failure,
    fill: impl FnOnce(&mut Feed) -> Result<T>,
) -> Result<(T, Sha256)> {
    let threads = available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    thread::scope(|scope| {
        let (jobs, waiting) = channel();
        let (order, finished) = channel();
        let (back, free) = channel();
        // One slot for each thread, one to be filled and one to be written.
        for _ in 0..threads + 2 {
            back.send(Slot::default()).explain(|| Failure::bug("nothing takes what is free"))?;
        }
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..threads {
            let waiting = Arc::clone(&waiting);
            scope.spawn(move || pack_all(&waiting));
        }
        let writing = scope.spawn(move || write_all(finished, back, to, start));
        let mut feed = Feed { jobs, order, free, slot: None };
        let filled = fill(&mut feed).and_then(|value| feed.flush().map(|()| value).explain(&cannot));
        drop(feed);
        let written = writing.join().map_err(|_| Failure::bug("the thread that writes died"))?;
        // After a failed write nothing can be filled in any more, so the error of the write comes first.
        let hash = written.explain(&cannot)?;
        Ok((filled?, hash))
    })
}

#[derive(Default)]
struct Slot {
    plain: Vec<u8>,
    length: usize,
    packed: Vec<u8>,
}

struct Job {
    slot: Slot,
    done: Sender<io::Result<Slot>>,
}

pub(super) struct Feed {
    jobs: Sender<Job>,
    order: Sender<Receiver<io::Result<Slot>>>,
    free: Receiver<Slot>,
    slot: Option<Slot>,
}

impl Feed {
    pub(super) fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.take(&mut bytes)?;
        }
        Ok(())
    }

    /// Reads some bytes from `from`, feeds them and returns them; an empty slice means the end.
    pub(super) fn take(&mut self, from: &mut dyn Read) -> io::Result<&[u8]> {
        if self.slot.as_ref().is_some_and(|slot| slot.length == FRAME) {
            self.flush()?;
        }
        if self.slot.is_none() {
            let mut slot = self.free.recv().map_err(gone)?;
            slot.plain.resize(FRAME, 0);
            slot.length = 0;
            self.slot = Some(slot);
        }
        let Some(Slot { plain, length, .. }) = &mut self.slot else { return Ok(&[]) };
        let room = plain.get_mut(*length..).unwrap_or_default();
        let more = loop {
            match from.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        *length += more;
        Ok(plain.get(*length - more..*length).unwrap_or_default())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(slot) = self.slot.take().filter(|slot| slot.length > 0) else { return Ok(()) };
        let (done, packed) = channel();
        self.jobs.send(Job { slot, done }).map_err(gone)?;
        self.order.send(packed).map_err(gone)
    }
}

fn gone(_: impl std::error::Error) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "nothing takes what is to be compressed")
}

fn pack_all(waiting: &Mutex<Receiver<Job>>) {
    let mut compressor = compressor();
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { mut slot, done }) = next else { return };
        let packed = match &mut compressor {
            Ok(compressor) => pack(compressor, &mut slot),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        // The receiver may have given up.
        let _ = done.send(packed.map(|()| slot));
    }
}

fn compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    Ok(compressor)
}

fn pack(compressor: &mut Compressor<'_>, slot: &mut Slot) -> io::Result<()> {
    slot.packed.clear();
    slot.packed.reserve(compress_bound(FRAME));
    compressor.compress_to_buffer(slot.plain.get(..slot.length).unwrap_or_default(), &mut slot.packed)?;
    Ok(())
}

fn write_all(
    finished: Receiver<Receiver<io::Result<Slot>>>,
    back: Sender<Slot>,
    mut to: &File,
    start: u64,
) -> io::Result<Sha256> {
    let mut hash = Sha256::new();
    let (mut at, mut told) = (start, start);
    for packed in finished {
        let slot = packed.recv().map_err(gone)??;
        to.write_all(&slot.packed)?;
        hash.update(&slot.packed);
        at += slot.packed.len() as u64;
        // After the last frame nobody waits for the slot.
        let _ = back.send(slot);
        if at - told >= STRIDE {
            // Tells the kernel to write these bytes and to drop them from its cache.
            let from = told.saturating_sub(STRIDE);
            let _ = fadvise(to, from, NonZeroU64::new(at - from), Advice::DontNeed);
            told = at;
        }
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::sample;
    use std::io::Seek;

    fn cannot() -> Failure {
        Failure::user("cannot")
    }

    #[test]
    fn what_is_put_in_comes_out_in_its_order() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before").unwrap();
        let data = sample::noise(5 * FRAME + 7);
        let (count, hash) = compress(&file, 6, cannot, |feed| {
            feed.put(&data[..3])?;
            let mut rest = &data[3..];
            let mut count = 0;
            while !feed.take(&mut rest)?.is_empty() {
                count += 1;
            }
            Ok(count)
        })
        .unwrap();
        assert_eq!(count, 6);
        let mut written = Vec::new();
        file.seek(io::SeekFrom::Start(6)).unwrap();
        file.read_to_end(&mut written).unwrap();
        assert_eq!(Sha256::digest(&written), hash.finalize());
        assert_eq!(zstd::stream::decode_all(written.as_slice()).unwrap(), data);
    }

    #[test]
    fn a_full_disk_is_told_and_nothing_waits_for_it() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let data = sample::noise(32 * FRAME);
        let error = compress(&full, 0, cannot, |feed| Ok(feed.put(&data)?)).unwrap_err();
        let cause = error.chain().nth(1).and_then(|cause| cause.downcast_ref::<io::Error>()).unwrap();
        assert_eq!(cause.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn whoever_gives_up_while_filling_ends_all() {
        let file = tempfile::tempfile().unwrap();
        let refused = compress(&file, 0, cannot, |feed| {
            feed.put(&[1; 3 * FRAME])?;
            Err::<(), _>(Failure::interrupted().into())
        });
        assert_eq!(refused.unwrap_err().to_string(), "interrupted");
    }
}
