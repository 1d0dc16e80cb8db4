//! Files with a person's ssh keys on this computer.

use std::path::{Path, PathBuf};

use crate::file;
use crate::guest::ssh_config::{escaped, expanded};
use crate::model::public_half;

/// A file of a key that is or may be on this computer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyFile {
    /// Its path as a value for ssh.
    pub(super) path: String,
    /// The public half, `TYPE BASE64`; `None` where it is not known.
    pub(super) key: Option<String>,
}

/// Returns the files of keys that ssh is configured for, then those in `~/.ssh`.
pub(super) fn key_files(configured: &[String], home: Option<&Path>) -> Vec<KeyFile> {
    let named = configured.iter().filter_map(|text| {
        let path = expanded(text, home)?;
        Some(KeyFile { key: public_key(&path), path: text.clone() })
    });
    let found = home.map(public_keys).unwrap_or_default().into_iter().filter_map(|public| {
        let private = public.with_extension("");
        let path = if private.exists() { &private } else { return None };
        Some(KeyFile { path: escaped(path), key: key_of(&file::read(&public).ok()??) })
    });
    named.chain(found).collect()
}

/// Returns the public half of the key in that file, which may be either half; `None` where there is none.
fn public_key(path: &Path) -> Option<String> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    let read = |path: &Path| file::read(path).ok().flatten();
    if let Some(text) = read(Path::new(&beside)).filter(|_| path.exists()) {
        return key_of(&text);
    }
    let text = read(path)?;
    public_half(&text).or_else(|| key_of(&text))
}

/// Returns the files of public keys in `~/.ssh`: the best of OpenSSH's default names first, then all others.
pub fn public_keys(home: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(home.join(".ssh"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "pub"))
        .collect();
    files.sort_by_key(|path| (!path.ends_with("id_ed25519.pub"), path.clone()));
    files
}

/// Returns the key in a line, `TYPE BASE64`.
pub(super) fn key_of(line: &str) -> Option<String> {
    let mut words = line.split_ascii_whitespace();
    Some(format!("{} {}", words.next()?, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Command;
    use std::fs;

    #[test]
    fn a_key_is_known_by_its_public_half_whatever_its_file_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(".ssh");
        fs::create_dir(&folder).unwrap();
        let key = |name: &str, phrase: &str| {
            let path = folder.join(name);
            let keygen = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", phrase, "-f"]);
            keygen.arg(&path).output().unwrap();
            let public = fs::read_to_string(path.with_extension("pub")).unwrap();
            key_of(&public).unwrap()
        };
        let (work, locked) = (key("work_ed25519", ""), key("locked", "a passphrase"));
        // Its public half stands in the private file too, for everybody to read.
        fs::remove_file(folder.join("locked.pub")).unwrap();
        // A public half whose private one is elsewhere opens nothing.
        fs::write(folder.join("gone.pub"), "ssh-ed25519 AAAA gone\n").unwrap();
        let found = key_files(&["~/.ssh/locked".to_owned(), "~/.ssh/id_%h".to_owned()], Some(dir.path()));
        let path = folder.join("work_ed25519").display().to_string();
        let file = |path: &str, key: &str| KeyFile { path: path.into(), key: Some(key.into()) };
        assert_eq!(found, [file("~/.ssh/locked", &locked), file(&path, &work)]);
    }
}
