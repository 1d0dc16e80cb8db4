//! The files of the flake that a generation was built from, kept so that `diff` can name those that changed.
//!
//! A digest is kept of every file, and the text of modules and profiles, where options are set.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::error::{Explain, Failure, Result};
use crate::model::closure::ChangeKind;
use crate::model::{MachineName, shortened};
use crate::render::{MODULE, definitions, essence};

/// The files that `render` writes for a machine.
const RENDERED: [&str; 3] = [MODULE, "extra.nix", "profile"];

const FORMAT: u32 = 1;

/// The folders whose files' text is kept.
const TEXTS: [&str; 3] = ["machines/", "modules/", "profiles/"];

/// Largest file whose text is kept, in bytes.
const LARGEST_TEXT: usize = 64 << 10;

/// Characters of a value that are shown.
const WIDTH: usize = 200;

/// The files of a flake, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    format: u32,
    files: BTreeMap<String, SourceFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceFile {
    sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// A file of the flake that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceChange {
    /// Its name in the workspace.
    pub file: String,
    pub kind: ChangeKind,
    /// Whether only comments and layout changed.
    pub cosmetic: bool,
    /// The options that it defines differently; empty where that is not known.
    pub options: Vec<OptionChange>,
}

/// An option that a file defines differently than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OptionChange {
    /// The option's path; for a name in the file's `let`, with `let.` before it.
    pub option: String,
    /// The expression in one line; `None` where the file did not define it.
    pub before: Option<String>,
    pub after: Option<String>,
}

impl Default for Sources {
    fn default() -> Self {
        Sources { format: FORMAT, files: BTreeMap::new() }
    }
}

impl Sources {
    /// Returns the files of a staged flake.
    pub fn of_flake(flake: &Path) -> Result<Self> {
        let mut sources = Sources::default();
        sources.add(flake, Path::new(""), &[])?;
        Ok(sources)
    }

    /// Returns the files of a rendered machine that its `extra.nix` names.
    pub fn of_machine(rendered: &Path, machine: &MachineName) -> Result<Self> {
        let mut sources = Sources::default();
        sources.add(rendered, &Path::new("machines").join(machine.as_str()), &RENDERED)?;
        Ok(sources)
    }

    /// Returns these files and those.
    #[must_use]
    pub fn with(&self, others: &Sources) -> Self {
        let mut sources = self.clone();
        sources.files.extend(others.files.clone());
        sources
    }

    /// Adds the files below `folder` under the names that they have below `place` in the workspace, without those in `known`.
    fn add(&mut self, folder: &Path, place: &Path, known: &[&str]) -> Result<()> {
        for entry in WalkDir::new(folder) {
            let entry = entry.explain(|| Failure::unreadable(folder))?;
            let Ok(path) = entry.path().strip_prefix(folder) else { continue };
            if entry.file_type().is_dir() || known.iter().any(|known| path == Path::new(known)) {
                continue;
            }
            let name = place.join(path).to_string_lossy().into_owned();
            let source = source(&name, &entry)?;
            self.files.insert(name, source);
        }
        Ok(())
    }

    /// Reads the kept text; `None` where this nixvm cannot read it.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|sources: &Sources| sources.format == FORMAT)
    }

    pub fn to_text(&self) -> Result<String> {
        serde_json::to_string(self).explain(|| Failure::bug("cannot write down what a build was made from"))
    }

    /// Returns the files in which `after`, the later flake, differs from this one, sorted by name.
    pub fn diff(&self, after: &Sources) -> Vec<SourceChange> {
        let names: BTreeSet<&String> = self.files.keys().chain(after.files.keys()).collect();
        let change = |name: &String| change(name, self.files.get(name), after.files.get(name));
        names.into_iter().filter_map(change).collect()
    }
}

fn source(name: &str, entry: &walkdir::DirEntry) -> Result<SourceFile> {
    let cannot = || Failure::unreadable(entry.path());
    let bytes = if entry.path_is_symlink() {
        std::fs::read_link(entry.path()).explain(cannot)?.into_os_string().into_encoded_bytes()
    } else {
        std::fs::read(entry.path()).explain(cannot)?
    };
    let is_module = name.ends_with(".nix") && TEXTS.iter().any(|folder| name.starts_with(folder));
    let sha256 = format!("{:x}", Sha256::digest(&bytes));
    let text = (is_module && bytes.len() <= LARGEST_TEXT).then(|| String::from_utf8(bytes).ok()).flatten();
    Ok(SourceFile { sha256, text })
}

fn change(name: &str, before: Option<&SourceFile>, after: Option<&SourceFile>) -> Option<SourceChange> {
    let kind = match (before, after) {
        (None, _) => ChangeKind::Added,
        (_, None) => ChangeKind::Removed,
        (Some(before), Some(after)) if before.sha256 != after.sha256 => ChangeKind::Changed,
        _ => return None,
    };
    let [old, new] = [before, after].map(|source| source?.text.as_deref());
    let texts = old.zip(new);
    Some(SourceChange {
        file: name.to_owned(),
        kind,
        cosmetic: texts.is_some_and(|(old, new)| essence(old) == essence(new)),
        options: texts.map(|(old, new)| options(old, new)).unwrap_or_default(),
    })
}

/// Returns in which definitions two versions of a module differ, sorted by path.
fn options(before: &str, after: &str) -> Vec<OptionChange> {
    let Some((before, after)) = definitions(before).zip(definitions(after)) else { return Vec::new() };
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let change = |path: &String| {
        let (old, new) = (before.get(path), after.get(path));
        (old != new).then(|| OptionChange {
            option: path.clone(),
            before: old.map(|value| in_one_line(value)),
            after: new.map(|value| in_one_line(value)),
        })
    };
    paths.into_iter().filter_map(change).collect()
}

fn in_one_line(value: &str) -> String {
    shortened(&value.split_whitespace().collect::<Vec<_>>().join(" "), WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Sources {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut sources = Sources::default();
        sources.add(dir.path(), Path::new(""), &[]).unwrap();
        sources
    }

    #[test]
    fn a_changed_profile_is_named_with_its_options() {
        let before = sources(&[
            ("flake.nix", "{ }"),
            ("profiles/core.nix", "{ }"),
            ("profiles/old.nix", "{ }"),
            ("profiles/web.nix", "{ services.nginx.enable = false; a = 1; gone = 1; }"),
        ]);
        let after = sources(&[
            ("flake.nix", "{ description = \"x\"; }"),
            ("profiles/core.nix", "# more\n{ }"),
            ("profiles/new.nix", "{ }"),
            ("profiles/web.nix", "{ services.nginx.enable = true; a = 1; }"),
        ]);
        let kept = Sources::parse(&before.to_text().unwrap()).unwrap();
        assert_eq!(kept, before);
        let changes = kept.diff(&after);
        let told: Vec<(&str, ChangeKind, bool)> =
            changes.iter().map(|c| (c.file.as_str(), c.kind, c.cosmetic)).collect();
        assert_eq!(
            told,
            [
                ("flake.nix", ChangeKind::Changed, false),
                ("profiles/core.nix", ChangeKind::Changed, true),
                ("profiles/new.nix", ChangeKind::Added, false),
                ("profiles/old.nix", ChangeKind::Removed, false),
                ("profiles/web.nix", ChangeKind::Changed, false),
            ]
        );
        let option = |option: &str, before: Option<&str>, after: Option<&str>| OptionChange {
            option: option.into(),
            before: before.map(Into::into),
            after: after.map(Into::into),
        };
        assert_eq!(
            changes[4].options,
            [option("gone", Some("1"), None), option("services.nginx.enable", Some("false"), Some("true"))]
        );
        assert_eq!(kept.diff(&kept), []);
    }

    #[test]
    fn files_beside_a_machines_module_are_named_as_the_user_knows_them() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["default.nix", "lib.nix"] {
            std::fs::write(dir.path().join(name), "{ }").unwrap();
        }
        let mut found = Sources::default();
        found.add(dir.path(), Path::new("machines/web"), &["default.nix"]).unwrap();
        assert_eq!(found.files.into_keys().collect::<Vec<_>>(), ["machines/web/lib.nix"]);
    }

    #[test]
    fn what_another_nixvm_kept_is_not_known() {
        assert_eq!(Sources::parse(""), None);
        assert_eq!(Sources::parse(r#"{"format": 2, "files": {}}"#), None);
    }
}
