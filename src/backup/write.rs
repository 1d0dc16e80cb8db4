//! Writing an archive, in one pass over the data.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::available_parallelism;

use sha2::{Digest, Sha256};
use zstd::stream::write::Encoder;
use zstd::zstd_safe::CParameter;

use super::member::{Role, TRAILER, header, padding};
use super::part::Part;
use super::{About, ArchiveName, Checksum, MachineFile, Manifest, Member, Progress, front, qcow2};
use crate::error::{Explain, Failure, Result};

/// zstd's own default.
const LEVEL: i32 = 3;

/// Bytes that zstd looks back, as a power of two, and bytes that it gives to a thread at a time.
///
/// Its defaults, 2 and 8 MiB, would take more memory than a command may have.
const WINDOW: u32 = 20;
const JOB: u32 = 1 << 20;

/// Most threads: each has its share of memory.
const MOST_THREADS: usize = 4;

/// Bytes that are read at a time.
const CHUNK: usize = 128 << 10;

/// What goes into an archive.
pub struct Source<'a> {
    /// The machine's files.
    pub files: Vec<MachineFile>,
    /// The data disk, a qcow2 file; read once, from its beginning.
    pub data: &'a mut dyn Read,
    /// How many bytes `data` has.
    pub data_size: u64,
    /// The variables of the machine's firmware.
    pub nvram: Option<&'a [u8]>,
}

/// An archive that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What it is called.
    pub name: ArchiveName,
    /// The digest of its manifest, by which an incremental one names it as its parent.
    pub manifest: Checksum,
}

/// Writes the archive of a machine into a folder.
///
/// It is synced, readable by its owner only, and there whole or not at all. It is named after `about.created`, or after
/// the next second that no archive of the machine has. An error that `progress` returns ends the work.
///
/// # Errors
/// The data cannot be read, is no qcow2 file that stands alone or has another length than was said; the folder cannot be
/// written, or is full; `progress` refuses to go on.
pub fn write(
    folder: &Path,
    about: &About,
    mut source: Source<'_>,
    progress: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<Written> {
    let mut head = Vec::new();
    let unreadable = || Failure::user("cannot read the data disk");
    source.data.take(qcow2::HEAD as u64).read_to_end(&mut head).explain(unreadable)?;
    source.files.sort_by(|a, b| a.name.cmp(&b.name));
    let mut manifest = declare(about, &source, qcow2::virtual_size(&head)?);
    let room = front::room(manifest.text()?.len());

    let part = Part::create(folder)?;
    let cannot = || Failure::user(format!("cannot write an archive into {}", folder.display()));
    let mut file = part.file();
    file.seek(SeekFrom::Start(room as u64)).explain(cannot)?;
    let mut body = Body {
        encoder: encoder(Hashed { to: file, hash: Sha256::new() }, manifest.tar_size()).explain(cannot)?,
        progress,
        at: Progress { done: 0, total: manifest.size() },
        cannot: &cannot,
    };
    let mut files = source.files.iter();
    for member in &mut manifest.members {
        let announced = header(&member.path(), member.size, member.mode(), about.created)?;
        body.put(&announced)?;
        member.sha256 = match member.role {
            Role::Data { .. } => body.stream(&mut head.as_slice().chain(&mut *source.data), member.size)?,
            Role::Nvram => body.bytes(source.nvram.unwrap_or_default())?,
            Role::File { .. } => body.bytes(files.next().map(|f| f.bytes.as_slice()).unwrap_or_default())?,
        };
        body.zeros(padding(member.size))?;
    }
    body.zeros(TRAILER)?;
    let Hashed { hash, .. } = body.encoder.finish().explain(cannot)?;

    let text = manifest.text()?;
    let front = front::pack(&text, about.created, room, hash)?;
    part.file().write_all_at(&front, 0).explain(cannot)?;
    let name = part.finish(folder, &about.machine, about.created)?;
    Ok(Written { name, manifest: Checksum::of(text.as_bytes()) })
}

/// Returns the manifest, but for the digests.
fn declare(about: &About, source: &Source<'_>, virtual_size: u64) -> Manifest {
    let member = |role, size| Member { role, size, sha256: Checksum::UNKNOWN };
    let file = |file: &MachineFile| {
        let role = Role::File { name: file.name.clone(), executable: file.executable };
        member(role, file.bytes.len() as u64)
    };
    let mut members: Vec<Member> = source.files.iter().map(file).collect();
    members.push(member(Role::Data { virtual_size }, source.data_size));
    members.extend(source.nvram.map(|nvram| member(Role::Nvram, nvram.len() as u64)));
    Manifest { about: about.clone(), members }
}

fn encoder<W: Write>(to: W, size: u64) -> io::Result<Encoder<'static, W>> {
    let mut encoder = Encoder::new(to, LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(size))?;
    encoder.set_parameter(CParameter::WindowLog(WINDOW))?;
    let threads = available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    encoder.multithread(u32::try_from(threads).unwrap_or(1))?;
    encoder.set_parameter(CParameter::JobSize(JOB))?;
    Ok(encoder)
}

/// A file, and the digest of what was written to it.
struct Hashed<'a> {
    to: &'a File,
    hash: Sha256,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.to.write(bytes)?;
        self.hash.update(bytes.get(..length).unwrap_or_default());
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The tar archive behind the manifest, on its way through zstd.
struct Body<'a> {
    encoder: Encoder<'static, Hashed<'a>>,
    progress: &'a mut dyn FnMut(Progress) -> Result<()>,
    at: Progress,
    cannot: &'a dyn Fn() -> Failure,
}

impl Body<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.encoder.write_all(bytes).explain(self.cannot)
    }

    fn zeros(&mut self, count: u64) -> Result<()> {
        io::copy(&mut io::repeat(0).take(count), &mut self.encoder).map(drop).explain(self.cannot)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<Checksum> {
        self.stream(&mut &*bytes, bytes.len() as u64)
    }

    /// Writes all that `from` gives, which must be `size` bytes, and returns its digest.
    fn stream(&mut self, from: &mut dyn Read, size: u64) -> Result<Checksum> {
        let unreadable = || Failure::user("cannot read the data disk");
        let mut hash = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        let mut done = 0;
        loop {
            (self.progress)(self.at)?;
            let length = match from.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).explain(unreadable),
            };
            let chunk = buffer.get(..length).unwrap_or_default();
            if chunk.is_empty() {
                break;
            }
            done += chunk.len() as u64;
            if done > size {
                break;
            }
            hash.update(chunk);
            self.put(chunk)?;
            self.at.done += chunk.len() as u64;
        }
        if done == size {
            return Ok(hash.finalize().into());
        }
        let why = if done < size {
            format!("it ended after {done} of {size} bytes")
        } else {
            format!("it has more than the {size} bytes that it was said to have")
        };
        Err(unreadable().because(Failure::user(why)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::sample;
    use crate::error::Report;
    use std::fs;

    /// Returns why an archive is not written of that data, and that nothing is left then.
    fn refusal(data: &mut dyn Read, data_size: u64) -> (String, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let source = Source { files: Vec::new(), data, data_size, nvram: None };
        let error = write(dir.path(), &sample::about(), source, &mut |_| Ok(())).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let report = Report::of(&error);
        (report.error, report.causes)
    }

    #[test]
    fn data_of_another_length_or_kind_leaves_nothing() {
        let data = sample::qcow2(1 << 30, 300_000);
        let cannot = || "cannot read the data disk".to_owned();
        assert_eq!(
            refusal(&mut data.as_slice(), 300_001),
            (cannot(), vec!["it ended after 300000 of 300001 bytes".to_owned()])
        );
        assert_eq!(
            refusal(&mut data.as_slice(), 299_999),
            (cannot(), vec!["it has more than the 299999 bytes that it was said to have".to_owned()])
        );
        assert_eq!(
            refusal(&mut &data[1..], 299_999),
            ("the data is not a qcow2 file of version 2 or 3".to_owned(), Vec::new())
        );
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk is on fire"))
            }
        }
        let broken = refusal(&mut data[..1000].chain(Broken), 300_000);
        assert_eq!(broken, (cannot(), vec!["the disk is on fire".to_owned()]));
    }

    #[test]
    fn whoever_watches_can_end_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = sample::qcow2(1 << 30, 1_000_000);
        let source =
            Source { files: Vec::new(), data: &mut data.as_slice(), data_size: 1_000_000, nvram: None };
        let mut stop = |progress: Progress| {
            assert_eq!(progress.total, 1_000_000);
            if progress.done > 500_000 { Err(Failure::interrupted().into()) } else { Ok(()) }
        };
        let report = Report::of(&write(dir.path(), &sample::about(), source, &mut stop).unwrap_err());
        assert_eq!((report.error.as_str(), report.exit_code), ("interrupted", 130));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_full_disk_leaves_nothing() {
        let error = encoder(&File::options().write(true).open("/dev/full").unwrap(), 1 << 20)
            .and_then(|mut encoder| {
                encoder.write_all(&sample::noise(1 << 20))?;
                encoder.finish().map(drop)
            })
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let data = sample::qcow2(1 << 30, 1000);
        let source = Source { files: Vec::new(), data: &mut data.as_slice(), data_size: 1000, nvram: None };
        let error = write(Path::new("/nonexistent"), &sample::about(), source, &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "cannot write an archive into /nonexistent");
    }
}
