//! Trust in an archive's files that act on this host: Nix builds `extra.nix`, `health-check` runs here, and keys let people in.
//!
//! Nothing in an archive proves where it comes from. So `backup` notes the digest of the manifest of every archive that it makes
//! here, and a file that a machine of this workspace has already needs no trust. About all others a person decides, before
//! anything is built.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::backup::{self, Archive, Checksum};
use crate::config::{self, ArchivedFile, Brought};
use crate::error::{Failure, Result};
use crate::exec;
use crate::host::Setup;
use crate::model::MachineName;

/// The files of an archive that somebody has to agree to.
#[derive(Debug)]
pub struct Brings {
    pub file: PathBuf,
    /// The digest of its manifest, which covers all its files.
    pub archive: Checksum,
    pub files: Vec<Brought>,
}

impl Brings {
    /// Returns the files and their effects, one a line.
    pub fn listing(&self) -> String {
        let line = |brought: &Brought| format!("{}: {}", brought.file, brought.does);
        self.files.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Returns the error that refuses the archive.
    pub fn refused(&self) -> anyhow::Error {
        let file = self.file.display();
        let one = self.files.first().map_or("profile", |brought| &brought.file);
        Failure::user(format!("{file} was not made in this workspace, and some of its files would act on this host; nothing was changed"))
            .because(Failure::user(self.listing()))
            .hint(format!(
                "look at them, as with `zstdcat {} | tar xO machine/{one}`; if you trust them like your own programs, pass `--trust-archive`",
                exec::quoted(&self.file.to_string_lossy())
            ))
            .into()
    }
}

/// Returns the files to agree to before `name` takes the archive's `files`; its own folder stays, unless it is `replaced`.
pub(super) fn brings(
    setup: &Setup,
    (name, replaced): (&MachineName, bool),
    (file, archive): (&Path, &Archive),
    files: &[ArchivedFile],
) -> Result<Brings> {
    let workspace = &setup.workspace;
    let checksum = archive.checksum();
    let kept = !replaced && config::exists(workspace, name);
    let made_here = workspace.made_archives_dir().join(checksum.to_string()).is_file();
    let files = if kept || made_here {
        Vec::new()
    } else {
        config::brought(workspace, &[name, &archive.manifest().about.machine], files)?
    };
    Ok(Brings { file: file.to_owned(), archive: checksum, files })
}

/// Returns the machine's files in the archive.
pub(super) fn files_of(archive: &Archive) -> Result<Vec<ArchivedFile>> {
    let mut files = Vec::new();
    let mut members = archive.members()?;
    while let Some(mut entry) = members.advance()? {
        // They come first in the archive.
        let backup::MemberKind::File { name, executable } = &entry.member().role else { break };
        let (name, executable) = (name.as_str().to_owned(), *executable);
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        files.push(ArchivedFile { name, executable, bytes });
    }
    Ok(files)
}
