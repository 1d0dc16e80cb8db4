//! The journal's file.

use std::path::{Path, PathBuf};

use super::before;
use super::entry::{Entry, FORMAT};
use super::lock::{Holder, holder};
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::model::MachineName;

#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    entry: Entry,
}

impl Journal {
    /// Writes a new journal over what an earlier command left.
    pub fn begin(folder: &Path, machine: &MachineName, entry: Entry) -> Result<Self> {
        let journal = Journal { path: path(folder, machine), entry };
        journal.write()?;
        Ok(journal)
    }

    /// Records that one more step is done, and returns their number.
    pub fn step_done(&mut self) -> Result<usize> {
        self.entry.done += 1;
        self.write()?;
        Ok(self.entry.done)
    }

    /// Deletes the journal: all is done.
    pub fn finish(self) -> Result<()> {
        file::remove(&self.path).map(drop)
    }

    fn write(&self) -> Result<()> {
        let cannot = || Failure::user(format!("cannot write {}", self.path.display()));
        let text = serde_json::to_string(&self.entry).explain(cannot)?;
        file::replace(&self.path, &text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkState {
    /// No command works on the machine, and none was interrupted.
    Idle,
    /// A command works on it; without an entry it has not written its steps yet.
    AtWork(Holder, Option<Entry>),
    Interrupted(Entry),
}

pub fn state(folder: &Path, machine: &MachineName) -> Result<WorkState> {
    let at_work = holder(folder, machine);
    let entry = read(folder, machine)?;
    Ok(match (at_work, entry) {
        (Some(holder), entry) => WorkState::AtWork(holder, entry),
        (None, Some(entry)) => WorkState::Interrupted(entry),
        (None, None) => WorkState::Idle,
    })
}

/// Returns a machine's journal, whoever wrote it; `None` where nothing is left to do.
pub fn read(folder: &Path, machine: &MachineName) -> Result<Option<Entry>> {
    let path = path(folder, machine);
    let Some(text) = file::read(&path)? else { return Ok(None) };
    let entry: Option<Entry> = serde_json::from_str(&text).ok();
    match entry.filter(|entry| entry.format == FORMAT).or_else(|| before::read(&text)) {
        // The command was killed after its last step, before it deleted the journal.
        Some(entry) if entry.done >= entry.steps.len() => Ok(None),
        Some(entry) => Ok(Some(entry)),
        None => Err(Failure::user(format!("{} is not a journal that this nixvm can read", path.display()))
            .hint("finish the work with the nixvm that wrote it, or delete the file: that may leave orphaned volumes in the pool")
            .into()),
    }
}

pub fn forget(folder: &Path, machine: &MachineName) -> Result<()> {
    file::remove(&path(folder, machine)).map(drop)
}

fn path(folder: &Path, machine: &MachineName) -> PathBuf {
    folder.join(format!("{machine}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Command, Intent, MachineLock, Recorded};
    use std::time::Duration;

    fn entry() -> Entry {
        let holder = Holder { pid: 7, command: Command::new("upgrade", ["web"]), since: 1 };
        let step = |title: &str, intent| Recorded { title: title.into(), intent };
        let steps = vec![step("build", None), step("swap", Some(Intent::Generation(2)))];
        Entry::new(holder, steps, vec!["web.boot-2.qcow2".into()])
    }

    #[test]
    fn work_that_was_interrupted_is_known_by_its_journal_without_a_lock() {
        let dir = tempfile::tempdir().unwrap();
        let web: MachineName = "web".parse().unwrap();
        let look = || state(dir.path(), &web).unwrap();
        assert_eq!(look(), WorkState::Idle);
        let lock = MachineLock::take(dir.path(), &web, &entry().holder, Duration::ZERO).unwrap();
        assert_eq!(look(), WorkState::AtWork(entry().holder, None));
        let mut journal = Journal::begin(dir.path(), &web, entry()).unwrap();
        assert_eq!(journal.step_done().unwrap(), 1);
        drop(lock);
        let WorkState::Interrupted(cut) = look() else { panic!("{:?}", look()) };
        assert_eq!((cut.done, cut.place()), (1, "step 2 of 2, swap".into()));
        journal.step_done().unwrap();
        assert_eq!(look(), WorkState::Idle, "all is done");
        journal.finish().unwrap();
        assert_eq!(look(), WorkState::Idle);
    }

    #[test]
    fn a_later_command_finds_the_intents_whatever_people_were_told() {
        let dir = tempfile::tempdir().unwrap();
        let web: MachineName = "web".parse().unwrap();
        drop(Journal::begin(dir.path(), &web, entry()).unwrap());
        let found = read(dir.path(), &web).unwrap().unwrap();
        assert_eq!(found, entry());
        assert!(found.intends(Intent::Generation(2)) && !found.intends(Intent::Generation(1)));
        let text =
            std::fs::read_to_string(path(dir.path(), &web)).unwrap().replace("swap", "another word for it");
        std::fs::write(path(dir.path(), &web), text).unwrap();
        assert!(read(dir.path(), &web).unwrap().unwrap().intends(Intent::Generation(2)));
    }

    #[test]
    fn a_journal_of_another_version_is_not_guessed_at() {
        let dir = tempfile::tempdir().unwrap();
        let web: MachineName = "web".parse().unwrap();
        for text in ["", "{", r#"{"format":3}"#, r#"{"format":1}"#] {
            std::fs::write(dir.path().join("web.json"), text).unwrap();
            assert!(
                state(dir.path(), &web)
                    .unwrap_err()
                    .to_string()
                    .ends_with("is not a journal that this nixvm can read")
            );
        }
    }
}
