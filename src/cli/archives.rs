//! The folder of the archives, and how a list of them is shown.

use std::path::{Path, PathBuf};

use console::style;
use indicatif::HumanBytes;

use crate::backup::{ArchiveName, State};
use crate::cli::{dash, table};
use crate::error::{Explain, Failure, Result};
use crate::model::Timestamp;
use crate::ops::{ListedBackup, Setup};

/// Returns the folder of the archives, absolute.
pub fn folder(setup: &Setup, named: Option<&Path>) -> Result<PathBuf> {
    match named {
        None => Ok(setup.workspace.backups_dir()),
        Some(named) => {
            std::path::absolute(named).explain(|| Failure::user(format!("cannot find {}", named.display())))
        }
    }
}

pub fn listing(found: &[ListedBackup]) -> String {
    table(&["ARCHIVE", "TIME (UTC)", "SIZE", "GENERATION", "DATA", "CHAIN"], found.iter().map(row))
}

fn row(backup: &ListedBackup) -> Vec<String> {
    let taken = Timestamp::from_unix(backup.taken);
    let name = taken.map(|taken| ArchiveName { taken, machine: backup.machine.clone() }.to_string());
    let contents = backup.contents.as_ref();
    vec![
        name.unwrap_or_else(|| backup.file.display().to_string()),
        dash(taken.map(|taken| taken.in_words().trim_end_matches(" UTC").to_owned())),
        HumanBytes(backup.bytes).to_string(),
        dash(contents.map(|contents| contents.generation)),
        dash(contents.map(|contents| state(contents.state))),
        match (&backup.fault, contents) {
            (Some(fault), _) => style(fault).red().to_string(),
            (None, Some(contents)) if contents.parent.is_some() => format!("{} archives", contents.chain),
            _ => "full".into(),
        },
    ]
}

pub fn state(state: State) -> &'static str {
    match state {
        State::Off => "consistent (off)",
        State::Frozen => "consistent (frozen)",
        State::Running => "as after a power cut",
    }
}
