//! Reading an untrusted archive.
//!
//! It contains what becomes a machine: its keys, its data, and a file that nixvm runs on this host. So every byte is
//! compared with the manifest, which can only say what nixvm writes. The manifest's sizes bound how much is read, and zstd's
//! window bounds the memory, whatever the archive claims.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zstd::stream::read::Decoder;

use super::front::{self, Front, LARGEST_WINDOW};
use super::member::{MemberKind, TRAILER, compare, header, padding};
use super::{Checksum, Manifest, Member};
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::model::{Progress, qcow2};

const CHUNK: usize = 128 << 10;

/// An archive of which only the manifest has been read.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    length: u64,
    front: Front,
}

impl Archive {
    /// Opens the archive at `path` and reads only its beginning.
    ///
    /// Refuses an archive that another user, root excepted, owns or can write.
    pub fn open(path: &Path) -> Result<Self> {
        let cannot = || Failure::user(format!("cannot read the archive {}", path.display()));
        let file = file::open(path).explain(cannot)?;
        let metadata = file.metadata().explain(cannot)?;
        if !metadata.is_file() {
            return Err(cannot().because(Failure::user("it is not a regular file")).into());
        }
        let reader = rustix::process::geteuid().as_raw();
        check_owner(path, metadata.uid(), metadata.mode(), reader).explain(cannot)?;
        let mut beginning = Vec::new();
        At::new(&file, 0).take(front::most() as u64).read_to_end(&mut beginning).explain(cannot)?;
        let front = front::unpack(&beginning).explain(cannot)?;
        Ok(Archive { path: path.to_owned(), file, length: metadata.len(), front })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.front.manifest
    }

    /// Returns the digest of the manifest, by which an incremental archive names this one as its parent.
    pub fn checksum(&self) -> Checksum {
        Checksum::of(&self.front.text)
    }

    /// Reads the whole archive and compares it with its manifest. An error of `progress` ends the work.
    pub fn verify(&self, progress: &mut dyn FnMut(Progress) -> Result<()>) -> Result<()> {
        let mut at = Progress { done: 0, total: self.manifest().size() };
        let mut buffer = vec![0; CHUNK];
        let mut members = self.members()?;
        progress(at)?;
        while let Some(mut entry) = members.advance()? {
            loop {
                match entry.take_some(&mut buffer)? {
                    0 => break,
                    length => at.done += length as u64,
                }
                progress(at)?;
            }
        }
        Ok(())
    }

    /// Returns the members in their order.
    ///
    /// Call [`Archive::verify`] first: a damaged archive must be detected before anything is changed.
    pub fn members(&self) -> Result<Members<'_>> {
        let from = BufReader::with_capacity(CHUNK, At::new(&self.file, self.front.length as u64));
        let mut decoder = Decoder::with_buffer(from).explain(|| self.damaged())?;
        decoder.window_log_max(LARGEST_WINDOW).explain(|| self.damaged())?;
        Ok(Members { archive: self, decoder, next: 0, reading: None })
    }

    fn damaged(&self) -> Failure {
        Failure::user(format!("the archive {} is damaged", self.path.display()))
            .hint("use another archive of the machine")
    }
}

fn check_owner(path: &Path, owner: u32, mode: u32, reader: u32) -> Result<()> {
    let why = if owner != reader && owner != 0 {
        format!("it belongs to the user {owner}, and its contents would become a machine of yours")
    } else if mode & 0o022 != 0 {
        "other users can write it, and its contents would become a machine of yours".to_owned()
    } else {
        return Ok(());
    };
    let shown = path.display();
    Err(Failure::user(why)
        .hint(format!("if you trust it, make it your own: `chown $(id -u) {shown} && chmod 600 {shown}`"))
        .into())
}

pub struct Members<'a> {
    archive: &'a Archive,
    decoder: Decoder<'static, BufReader<At<'a>>>,
    next: usize,
    reading: Option<Reading<'a>>,
}

struct Reading<'a> {
    member: &'a Member,
    left: u64,
    hash: Sha256,
    head: Vec<u8>,
}

impl<'a> Members<'a> {
    /// Returns the next member; `None` after the last one, once the archive has proved to end there. Reads and compares the
    /// rest of the member before.
    pub fn advance(&mut self) -> Result<Option<Entry<'_, 'a>>> {
        let archive = self.archive;
        self.finish_member().explain(|| archive.damaged())?;
        let Some(member) = archive.front.manifest.members.get(self.next) else {
            self.end().explain(|| archive.damaged())?;
            return Ok(None);
        };
        self.next += 1;
        self.begin(member).explain(|| archive.damaged())?;
        Ok(Some(Entry { members: self, member }))
    }

    fn begin(&mut self, member: &'a Member) -> Result<()> {
        let mut found = [0; 512];
        self.fill(&mut found)?;
        let created = self.archive.front.manifest.about.created;
        compare(&found, &header(&member.path(), member.size, member.mode(), created)?)?;
        self.reading = Some(Reading { member, left: member.size, hash: Sha256::new(), head: Vec::new() });
        if member.size == 0 { self.settle() } else { Ok(()) }
    }

    /// Reads some bytes of the member; 0 means its end. The last bytes are given out only once all have proved right.
    fn some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(reading) = self.reading.as_mut().filter(|reading| reading.left > 0) else { return Ok(0) };
        let most = buffer.len().min(usize::try_from(reading.left).unwrap_or(usize::MAX));
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        if buffer.is_empty() {
            return Ok(0);
        }
        let length = self.decoder.read(buffer).explain(undecodable)?;
        let chunk = buffer.get(..length).unwrap_or_default();
        if chunk.is_empty() {
            return Err(Failure::user(format!("it ends inside `{}`", reading.member)).into());
        }
        reading.hash.update(chunk);
        let wanted = qcow2::STANDALONE - reading.head.len();
        reading.head.extend(chunk.iter().take(wanted));
        reading.left -= length as u64;
        if reading.left == 0 {
            self.settle()?;
        }
        Ok(length)
    }

    /// Compares a member that has been read to its end with the manifest.
    fn settle(&mut self) -> Result<()> {
        let Some(Reading { member, hash, head, .. }) = self.reading.take() else { return Ok(()) };
        if Checksum::from(hash.finalize()) != member.sha256 {
            return Err(Failure::user(format!("`{member}` has another digest than the manifest says")).into());
        }
        if let MemberKind::Data { virtual_size } = member.role {
            let found = qcow2::standalone_size(&head)?;
            if found != virtual_size {
                let why =
                    format!("`{member}` is a disk of {found} bytes, and the manifest says {virtual_size}");
                return Err(Failure::user(why).into());
            }
        }
        self.zeros(padding(member.size), &format!("after `{member}`"))
    }

    fn finish_member(&mut self) -> Result<()> {
        let mut buffer = Vec::new();
        while self.reading.is_some() {
            buffer.resize(CHUNK, 0);
            self.some(&mut buffer)?;
        }
        Ok(())
    }

    /// Checks that the tar archive, the last zstd frame and the file end at the same place.
    fn end(&mut self) -> Result<()> {
        self.zeros(TRAILER, "after the last member of the manifest")?;
        let more = || Failure::user("there is more data after its end");
        // A read error means that something other than a frame follows.
        if self.decoder.read(&mut [0]).map_err(|_| more())? != 0 {
            return Err(more().into());
        }
        let from = self.decoder.get_ref();
        let end = from.get_ref().at - from.buffer().len() as u64;
        if end != self.archive.length {
            return Err(more().into());
        }
        let hash = from.get_ref().hash.clone();
        if Checksum::from(hash.chain_update(&self.archive.front.frame).finalize()) != self.archive.front.seal
        {
            return Err(Failure::user("its seal is broken").into());
        }
        Ok(())
    }

    fn zeros(&mut self, count: u64, place: &str) -> Result<()> {
        let mut zeros = vec![0; usize::try_from(count)?];
        self.fill(&mut zeros)?;
        if zeros.iter().any(|&byte| byte != 0) {
            return Err(Failure::user(format!("unexpected bytes {place}")).into());
        }
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.decoder.read_exact(bytes).explain(undecodable)
    }
}

fn undecodable() -> Failure {
    Failure::user("it cannot be decompressed")
}

/// One member. Where its bytes are not those of the manifest, reading ends in an error instead of the last ones.
pub struct Entry<'m, 'a> {
    members: &'m mut Members<'a>,
    member: &'a Member,
}

impl<'a> Entry<'_, 'a> {
    pub fn member(&self) -> &'a Member {
        self.member
    }

    fn take_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let archive = self.members.archive;
        self.members.some(buffer).explain(|| archive.damaged())
    }
}

impl Read for Entry<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.take_some(buffer).map_err(io::Error::other)
    }
}

/// A reader with a position of its own, so that an open archive can be read more than once. It hashes what it reads.
struct At<'a> {
    file: &'a File,
    at: u64,
    hash: Sha256,
}

impl<'a> At<'a> {
    fn new(file: &'a File, at: u64) -> Self {
        At { file, at, hash: Sha256::new() }
    }
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.at)?;
        self.hash.update(buffer.get(..length).unwrap_or_default());
        self.at += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    #[test]
    fn only_the_readers_own_and_roots_archives_are_trusted() {
        let check = |owner, mode| check_owner(Path::new("x"), owner, mode, 1000);
        for (owner, mode) in [(1000, 0o100_600), (0, 0o100_600), (0, 0o100_644), (1000, 0o100_400)] {
            check(owner, mode).unwrap();
        }
        let report = Report::of(&check(1001, 0o100_600).unwrap_err());
        assert_eq!(
            report.error,
            "it belongs to the user 1001, and its contents would become a machine of yours"
        );
        assert_eq!(report.hints, ["if you trust it, make it your own: `chown $(id -u) x && chmod 600 x`"]);
        for mode in [0o100_620, 0o100_602, 0o100_666] {
            let error = check(0, mode).unwrap_err().to_string();
            assert_eq!(error, "other users can write it, and its contents would become a machine of yours");
        }
    }
}
