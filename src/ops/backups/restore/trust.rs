//! Whether an archive's files are taken that act on this host: Nix evaluates and builds `extra.nix`, `health-check` runs here,
//! and whoever has one of the keys logs in.
//!
//! An archive says nothing of itself that whoever made it could not have written. So what counts is what is here: that it
//! was made here is noted when it is made, by its manifest's digest, and a file that a machine of this workspace has already
//! brings nothing. All else is for a person to decide, before anything is built.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::backup::{self, Archive, Checksum};
use crate::config::{self, ArchivedFile, Brought};
use crate::error::{Failure, Result};
use crate::exec;
use crate::host::Setup;
use crate::model::MachineName;

/// What an archive brings that somebody has to agree to.
#[derive(Debug)]
pub struct Brings {
    /// The archive.
    pub file: PathBuf,
    /// The digest of its manifest, and so of all its files.
    pub archive: Checksum,
    /// The files; none, if there is nothing to agree to.
    pub files: Vec<Brought>,
}

impl Brings {
    /// Returns the files and what they do, one a line.
    pub fn listing(&self) -> String {
        let line = |brought: &Brought| format!("{}: {}", brought.file, brought.does);
        self.files.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Returns the error that refuses the archive.
    pub fn refused(&self) -> anyhow::Error {
        let file = self.file.display();
        let one = self.files.first().map_or("profile", |brought| &brought.file);
        Failure::user(format!("{file} was not made in this workspace, and its files would act here; nothing was changed"))
            .because(Failure::user(self.listing()))
            .hint(format!(
                "look at them, `zstdcat {} | tar xO machine/{one}`, and if you trust them like a program of your own, pass `--trust-archive`",
                exec::quoted(&self.file.to_string_lossy())
            ))
            .into()
    }
}

/// Returns what there is to agree to before `name` takes the archive's files, its own folder being kept where there is one
/// unless `replaced`. `files` are those of the archive.
///
/// # Errors
/// One of the files is wrong.
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
    let files = match kept || made_here {
        true => Vec::new(),
        false => config::brought(workspace, &[name, &archive.manifest().about.machine], files)?,
    };
    Ok(Brings { file: file.to_owned(), archive: checksum, files })
}

/// Returns the machine's files in the archive.
pub(super) fn files_of(archive: &Archive) -> Result<Vec<ArchivedFile>> {
    let mut files = Vec::new();
    let mut members = archive.members()?;
    while let Some(mut entry) = members.advance()? {
        // They come first; what is behind them is not read here.
        let backup::MemberKind::File { name, executable } = &entry.member().role else { break };
        let (name, executable) = (name.as_str().to_owned(), *executable);
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        files.push(ArchivedFile { name, executable, bytes });
    }
    Ok(files)
}
