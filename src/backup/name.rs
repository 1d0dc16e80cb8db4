//! The names of archives.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::model::{MachineName, Timestamp, quote};

const ENDING: &str = ".tar.zst";

/// The name of an archive's file, `MACHINE-YYYYmmdd-HHMMSS.tar.zst`, in UTC.
///
/// The time has a fixed length, so a name can be read in one way only: the archives of `web-prod` are never `web`'s. Names
/// sort by time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArchiveName {
    pub taken: Timestamp,
    pub machine: MachineName,
}

impl fmt::Display for ArchiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}{ENDING}", self.machine, self.taken)
    }
}

impl FromStr for ArchiveName {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        read(text).ok_or_else(|| {
            Failure::user(format!("{} is not the name of an archive", quote(text)))
                .hint("an archive is called `MACHINE-YYYYmmdd-HHMMSS.tar.zst`, the time being UTC")
        })
    }
}

fn read(text: &str) -> Option<ArchiveName> {
    let stem = text.strip_suffix(ENDING)?;
    let (rest, _) = stem.rsplit_once('-')?;
    let (machine, _) = rest.rsplit_once('-')?;
    let taken = stem.get(machine.len() + 1..)?.parse().ok()?;
    Some(ArchiveName { taken, machine: machine.parse().ok()? })
}

/// Returns the names of the archives in a folder, of one machine or of all, the oldest first. Opens none. A folder that does
/// not exist has none.
pub fn list(folder: &Path, machine: Option<&MachineName>) -> Result<Vec<ArchiveName>> {
    let cannot = || Failure::user(format!("cannot list the archives in {}", folder.display()));
    let Some(entries) = file::existing(fs::read_dir(folder)).explain(cannot)? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.explain(cannot)?;
        let name = entry.file_name().to_str().and_then(read);
        let wanted = |name: &ArchiveName| machine.is_none_or(|machine| *machine == name.machine);
        if let Some(name) = name.filter(wanted)
            && !entry.file_type().explain(cannot)?.is_dir()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;
    use proptest::prelude::*;

    fn machine(name: &str) -> MachineName {
        name.parse().unwrap()
    }

    #[test]
    fn a_name_has_one_machine() {
        for (text, of) in [
            ("web-20260121-171147.tar.zst", "web"),
            ("web-prod-20260121-171147.tar.zst", "web-prod"),
            ("1-20260121-171147.tar.zst", "1"),
            ("web-20260121-171147-20260122-000000.tar.zst", "web-20260121-171147"),
        ] {
            let name: ArchiveName = text.parse().unwrap();
            assert_eq!(name.machine.as_str(), of);
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_archives_name_is_refused() {
        for bad in [
            "",
            ".tar.zst",
            "web",
            "web.tar.zst",
            "web-20260121.tar.zst",
            "20260121-171147.tar.zst",
            "-20260121-171147.tar.zst",
            "web-20260121-171147.tar",
            "web-20260121-171147.tar.zst.part",
            "web-20260230-171147.tar.zst",
            "Web-20260121-171147.tar.zst",
            "../web-20260121-171147.tar.zst",
            "web/a-20260121-171147.tar.zst",
            "web-2026-121-171147.tar.zst",
        ] {
            let report = Report::of(&bad.parse::<ArchiveName>().unwrap_err().into());
            assert_eq!(report.error, format!("`{bad}` is not the name of an archive"));
            assert_eq!(
                report.hints,
                ["an archive is called `MACHINE-YYYYmmdd-HHMMSS.tar.zst`, the time being UTC"]
            );
        }
    }

    #[test]
    fn a_folders_archives_are_listed_by_time() {
        let dir = tempfile::tempdir().unwrap();
        let [old, middle, new] = [
            "web-prod-20251231-235959.tar.zst",
            "web-20260101-000000.tar.zst",
            "web-prod-20260102-000000.tar.zst",
        ];
        for file in [new, old, middle, "notes", ".web-20260101-000000.tar.zst"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        fs::create_dir(dir.path().join("web-20260103-000000.tar.zst")).unwrap();
        let listed = |machine: Option<&str>| -> Vec<String> {
            let names = list(dir.path(), machine.map(self::machine).as_ref()).unwrap();
            names.iter().map(ToString::to_string).collect()
        };
        assert_eq!(listed(None), [old, middle, new]);
        assert_eq!(listed(Some("web")), [middle]);
        assert_eq!(listed(Some("web-prod")), [old, new]);
        assert!(listed(Some("we")).is_empty());
        assert!(list(&dir.path().join("none"), None).unwrap().is_empty());
        let error = list(&dir.path().join("notes"), None).unwrap_err().to_string();
        assert_eq!(error, format!("cannot list the archives in {}/notes", dir.path().display()));
    }

    proptest! {
        #[test]
        fn every_name_round_trips(
            machine in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", seconds in 0u64..253_402_300_800
        ) {
            let taken = Timestamp::from_unix(seconds).unwrap();
            let name = ArchiveName { taken, machine: machine.parse().unwrap() };
            prop_assert_eq!(name.to_string().parse::<ArchiveName>().unwrap(), name);
        }
    }
}
