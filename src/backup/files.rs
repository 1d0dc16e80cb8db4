//! The files of a machine, as an archive takes them.

use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::FileName;
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::model::quote;

/// Largest file of a machine in an archive, in bytes; nixvm reads no larger one either.
pub(super) const LARGEST: u64 = 1 << 20;

/// Most bytes of all files of a machine together: they are held in memory.
pub(super) const LARGEST_SUM: u64 = 4 << 20;

#[derive(Clone, PartialEq, Eq)]
pub struct MachineFile {
    pub name: FileName,
    pub executable: bool,
    /// May be a secret.
    pub bytes: Vec<u8>,
}

/// Shows no contents, which may be a secret.
impl fmt::Debug for MachineFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MachineFile { name, executable, bytes } = self;
        write!(f, "{} ({} bytes, executable: {executable})", name.as_str(), bytes.len())
    }
}

/// Returns a machine's files, sorted by name. Hidden files are left out: editors and nixvm keep unfinished ones there.
///
/// Follows links, as nixvm does when it reads the machine. Refuses a folder or a device, a name that an archive does not
/// take, a file above 1 MiB, and more than 4 MiB in all.
pub fn machine_files(folder: &Path) -> Result<Vec<MachineFile>> {
    let cannot = || Failure::user(format!("cannot read the files in {}", folder.display()));
    let mut files = Vec::new();
    let mut room = LARGEST_SUM;
    for entry in fs::read_dir(folder).explain(cannot)? {
        let entry = entry.explain(cannot)?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let unfit = || Failure::user(format!("{} cannot be put into an archive", entry.path().display()));
        let text = name.to_str().ok_or_else(|| {
            unfit().because(Failure::user(format!("{} is not UTF-8", quote(name.as_encoded_bytes()))))
        })?;
        let file = machine_file(text.parse().explain(unfit)?, &entry.path()).explain(unfit)?;
        room = room.checked_sub(file.bytes.len() as u64).ok_or_else(|| {
            Failure::user(format!("{} holds more than 4 MiB", folder.display()))
                .hint("a machine's files are short texts; keep everything else in another folder")
        })?;
        files.push(file);
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn machine_file(name: FileName, path: &Path) -> Result<MachineFile> {
    let file = file::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Failure::user("it is not a regular file")
            .hint("keep only files in a machine's folder")
            .into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(LARGEST)).unwrap_or_default() + 1);
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::user("it has more than 1 MiB")
            .hint("a machine's files are short texts; keep everything else in another folder")
            .into());
    }
    Ok(MachineFile { name, executable: metadata.permissions().mode() & 0o100 != 0, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_file_is_taken_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("web");
        fs::create_dir(&folder).unwrap();
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        write("profile", "core\n");
        write("health-check", "#!/bin/sh\n");
        write("my.notes", "");
        write(".profile.swp", "hidden");
        write("../elsewhere-keys", "ssh-ed25519");
        fs::set_permissions(folder.join("health-check"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("../elsewhere-keys", folder.join("admin_authorized_keys")).unwrap();
        let files = machine_files(&folder).unwrap();
        let seen: Vec<_> =
            files.iter().map(|f| (f.name.as_str(), f.executable, f.bytes.as_slice())).collect();
        let expected: [(&str, bool, &[u8]); 4] = [
            ("admin_authorized_keys", false, b"ssh-ed25519"),
            ("health-check", true, b"#!/bin/sh\n"),
            ("my.notes", false, b""),
            ("profile", false, b"core\n"),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_an_archive_cannot_hold_is_named() {
        let refusal = |make: &dyn Fn(&Path)| {
            let dir = tempfile::tempdir().unwrap();
            make(dir.path());
            let report = Report::of(&machine_files(dir.path()).unwrap_err());
            let text = [report.error, report.causes.join(": ")].join(": ");
            text.replace(dir.path().to_str().unwrap(), "DIR")
        };
        assert_eq!(
            refusal(&|dir| fs::write(dir.join("my notes"), "").unwrap()),
            "DIR/my notes cannot be put into an archive: `my notes` cannot be the name of a machine's file: it holds ` `"
        );
        assert_eq!(
            refusal(&|dir| fs::create_dir(dir.join("modules")).unwrap()),
            "DIR/modules cannot be put into an archive: it is not a regular file"
        );
        assert_eq!(
            refusal(&|dir| fs::write(dir.join("iso"), vec![0; (1 << 20) + 1]).unwrap()),
            "DIR/iso cannot be put into an archive: it has more than 1 MiB"
        );
        assert_eq!(
            refusal(&|dir| {
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    dir.join("fifo"),
                    rustix::fs::FileType::Fifo,
                    0o600.into(),
                    0,
                )
                .unwrap();
            }),
            "DIR/fifo cannot be put into an archive: it is not a regular file"
        );
        assert_eq!(
            refusal(
                &|dir| (0..5).for_each(|i| fs::write(dir.join(format!("f{i}")), vec![0; 1 << 20]).unwrap())
            ),
            "DIR holds more than 4 MiB: "
        );
    }
}
