//! Writing an archive, in one pass over the data.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::frames::{self, Feed};
use super::member::{MemberKind, TRAILER, header, padding};
use super::part::{PartialArchive, cannot_write};
use super::{About, ArchiveName, Checksum, MachineFile, Manifest, Member, front};
use crate::error::{Explain, Failure, Result};
use crate::model::{Progress, qcow2};

pub struct ArchiveSource<'a> {
    pub files: Vec<MachineFile>,
    /// The data disk, a qcow2 file; read once, from the beginning.
    pub data: &'a mut dyn Read,
    pub data_size: u64,
    pub nvram: Option<&'a [u8]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub name: ArchiveName,
    /// The digest of its manifest: an incremental archive names its parent by it.
    pub manifest: Checksum,
}

/// Writes the archive of a machine into a folder.
///
/// It is synced, readable by its owner only, and whole or not there at all. It is named after `about.created`, or after the
/// next second without an archive of the machine. An error of `progress` ends the work.
///
/// The data must be a qcow2 file without a backing file, of exactly `data_size` bytes.
pub fn write(
    folder: &Path,
    about: &About,
    mut source: ArchiveSource<'_>,
    progress: &mut dyn FnMut(Progress) -> Result<()>,
) -> Result<Written> {
    let mut head = Vec::new();
    let unreadable = || Failure::user("cannot read the data disk");
    source.data.take(qcow2::STANDALONE as u64).read_to_end(&mut head).explain(unreadable)?;
    source.files.sort_by(|a, b| a.name.cmp(&b.name));
    let mut manifest = declare(about, &source, qcow2::standalone_size(&head)?);
    let room = front::room(manifest.text()?.len());

    let part = PartialArchive::create(folder)?;
    let cannot = || cannot_write(folder);
    part.file().seek(SeekFrom::Start(room as u64)).explain(cannot)?;
    let body = Body { progress, at: Progress { done: 0, total: manifest.size() } };
    let ((), hash) = frames::compress(part.file(), room as u64, cannot, |feed| {
        body.fill(feed, &mut manifest, &mut head.as_slice().chain(source.data), &source.files, source.nvram)
    })?;

    let text = manifest.text()?;
    let front = front::pack(&text, about.created, room, hash)?;
    part.file().write_all_at(&front, 0).explain(cannot)?;
    let name = part.finish(folder, &about.machine, about.created)?;
    Ok(Written { name, manifest: Checksum::of(text.as_bytes()) })
}

/// Returns the manifest without the digests.
fn declare(about: &About, source: &ArchiveSource<'_>, virtual_size: u64) -> Manifest {
    let member = |role, size| Member { role, size, sha256: Checksum::UNKNOWN };
    let file = |file: &MachineFile| {
        let role = MemberKind::File { name: file.name.clone(), executable: file.executable };
        member(role, file.bytes.len() as u64)
    };
    let mut members: Vec<Member> = source.files.iter().map(file).collect();
    members.push(member(MemberKind::Data { virtual_size }, source.data_size));
    members.extend(source.nvram.map(|nvram| member(MemberKind::Nvram, nvram.len() as u64)));
    Manifest { about: about.clone(), members }
}

struct Body<'a> {
    progress: &'a mut dyn FnMut(Progress) -> Result<()>,
    at: Progress,
}

impl Body<'_> {
    fn fill(
        mut self,
        feed: &mut Feed,
        manifest: &mut Manifest,
        data: &mut dyn Read,
        files: &[MachineFile],
        nvram: Option<&[u8]>,
    ) -> Result<()> {
        let mut files = files.iter().map(|file| file.bytes.as_slice());
        for member in &mut manifest.members {
            feed.put(&header(&member.path(), member.size, member.mode(), manifest.about.created)?)?;
            member.sha256 = match member.role {
                MemberKind::Data { .. } => self.stream(feed, data, member.size)?,
                MemberKind::Nvram => self.stream(feed, &mut nvram.unwrap_or_default(), member.size)?,
                MemberKind::File { .. } => {
                    self.stream(feed, &mut files.next().unwrap_or_default(), member.size)?
                }
            };
            feed.put(&vec![0; usize::try_from(padding(member.size))?])?;
        }
        Ok(feed.put(&vec![0; usize::try_from(TRAILER)?])?)
    }

    /// Feeds all of `from`, which must be `size` bytes, and returns its digest.
    fn stream(&mut self, feed: &mut Feed, from: &mut dyn Read, size: u64) -> Result<Checksum> {
        let unreadable = || Failure::user("cannot read the data disk");
        let mut hash = Sha256::new();
        let mut done = 0;
        loop {
            (self.progress)(self.at)?;
            let chunk = feed.take(from).explain(unreadable)?;
            done += chunk.len() as u64;
            if chunk.is_empty() || done > size {
                break;
            }
            self.at.done += chunk.len() as u64;
            hash.update(chunk);
        }
        if done == size {
            return Ok(hash.finalize().into());
        }
        let why = if done < size {
            format!("it ended after {done} of {size} bytes")
        } else {
            format!("it is longer than the expected {size} bytes")
        };
        Err(unreadable().because(Failure::user(why)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::sample;
    use crate::error::Report;
    use std::{fs, io};

    /// Returns why an archive is not written of that data, and that nothing is left then.
    fn refusal(data: &mut dyn Read, data_size: u64) -> (String, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let source = ArchiveSource { files: Vec::new(), data, data_size, nvram: None };
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
            (cannot(), vec!["it is longer than the expected 299999 bytes".to_owned()])
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
        let source = ArchiveSource {
            files: Vec::new(),
            data: &mut data.as_slice(),
            data_size: 1_000_000,
            nvram: None,
        };
        let mut stop = |progress: Progress| {
            assert_eq!(progress.total, 1_000_000);
            if progress.done > 500_000 { Err(Failure::interrupted().into()) } else { Ok(()) }
        };
        let report = Report::of(&write(dir.path(), &sample::about(), source, &mut stop).unwrap_err());
        assert_eq!((report.error.as_str(), report.exit_code), ("interrupted", 130));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let data = sample::qcow2(1 << 30, 1000);
        let source =
            ArchiveSource { files: Vec::new(), data: &mut data.as_slice(), data_size: 1000, nvram: None };
        let error = write(Path::new("/nonexistent"), &sample::about(), source, &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "cannot write an archive into /nonexistent");
    }
}
