//! `verify-backup`.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use indicatif::HumanBytes;

use crate::cli::{Cost, Shown, Subject, Terminal, Turn, cores, several, table, turns};
use crate::error::Result;
use crate::ops::{self, VerifiedBackup};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm verify-backup output/backups/web-20261125-161200.tar.zst
  nixvm verify-backup output/backups/web-*.tar.zst

An incremental archive is verified together with all archives that it adds to. They have to be in the
same folder.")]
pub struct VerifyBackup {
    /// The archives
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Verify N archives at the same time [default: half as many as there are cores, 1 to 4]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

#[derive(Debug, Clone)]
struct Archive(PathBuf);

impl fmt::Display for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Subject for Archive {
    const KEY: &'static str = "file";
    const MANY: &'static str = "archives";
}

pub fn run(args: &VerifyBackup, terminal: &Terminal) -> Result<Shown> {
    if let [file] = args.files.as_slice() {
        let verified = ops::verify_backup(file, terminal)?;
        return Ok(Shown::new(&verified, format!("{} {}", file.display(), whole(&verified))));
    }
    let jobs = args.jobs.unwrap_or_else(|| Cost::Packing.jobs(cores()));
    let archives = args.files.iter().cloned().map(Archive).collect();
    let verify = |archive: &Archive, terminal: &Terminal| ops::verify_backup(&archive.0, terminal).map(Some);
    let turns = turns(jobs, archives, terminal, || true, verify);
    let row = |turn: &Turn<_, Archive>| vec![turn.subject.to_string(), turn.seconds(), turn.word(whole)];
    let text = table(&["ARCHIVE", "SECONDS", "RESULT"], turns.iter().map(row));
    several(turns, text, terminal)
}

fn whole(verified: &VerifiedBackup) -> String {
    let others = match verified.files.len() {
        1 => String::new(),
        2 => ", and so is the archive that it adds to".into(),
        count => format!(", and so are the {} archives that it adds to", count - 1),
    };
    format!("is whole{others}: {}", HumanBytes(verified.bytes))
}
