//! The files that a machine's `extra.nix` names, and that are copied to Nix with it.
//!
//! A machine's folder holds secrets that must not reach Nix's store. So a file in it gets there only if a path in `extra.nix`,
//! or in a Nix file named there, leads to it: whoever writes `./site` says that Nix may have it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use rnix::SyntaxKind;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::model::MachineName;
use crate::model::secret::{MACHINE_FILES, MACHINE_SECRETS, is_private_key, is_secret_name};

/// The most bytes of all files together.
const LARGEST: u64 = 64 << 20;

/// A private key is recognised by its first bytes.
const START: u64 = 128;

/// A file that goes to Nix with `extra.nix`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Companion {
    pub path: PathBuf,
    /// Where the file is read, with all links resolved.
    source: PathBuf,
}

impl Companion {
    /// Opens the file; also returns whether it is executable.
    fn open(&self) -> Result<(File, bool)> {
        let cannot = || self.unreadable();
        let file = file::open_itself(&self.source).explain(cannot)?;
        let metadata = file.metadata().explain(cannot)?;
        if !metadata.is_file() {
            return Err(cannot().because(Failure::user("it is no regular file")).into());
        }
        Ok((file, metadata.permissions().mode() & 0o100 != 0))
    }

    fn read(&self) -> Result<(Vec<u8>, bool)> {
        let (mut file, executable) = self.open()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).explain(|| self.unreadable())?;
        Ok((bytes, executable))
    }

    fn is_private_key(&self) -> Result<bool> {
        let mut start = Vec::new();
        let (file, _) = self.open()?;
        file.take(START).read_to_end(&mut start).explain(|| self.unreadable())?;
        Ok(is_private_key(&start))
    }

    fn unreadable(&self) -> Failure {
        Failure::user(format!("cannot read `{}`", self.source.display()))
    }
}

/// Returns the files in a machine's folder that the text of its `extra.nix` leads to, sorted by path.
///
/// A path with `${…}` in it stands for the whole folder before that. `./.` is the machine's own folder: from there come the
/// files that are not nixvm's, not hidden, not secret by name and readable for other users; Nix files whatever their mode.
///
/// # Errors
/// A path leads out of the folder through a link, to a secret of the machine, or to a private key; the files are too large.
pub fn companions(folder: &Path, machine: &MachineName, extra: &str) -> Result<Vec<Companion>> {
    let Ok(root) = folder.canonicalize() else { return Ok(Vec::new()) };
    let mut search = Search { root, machine, found: BTreeSet::new(), bytes: 0 };
    let mut left = vec![(PathBuf::new(), extra.to_owned())];
    while let Some((base, text)) = left.pop() {
        for path in paths(&text) {
            for nix in search.add(&base, &path)? {
                let (bytes, _) = nix.read()?;
                let base = nix.path.parent().unwrap_or(Path::new("")).to_owned();
                left.push((base, String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
    }
    Ok(search.found.into_iter().collect())
}

/// Copies the files into the empty folder of a rendered machine. Returns the SHA-256 over the copies' paths, contents and
/// execute bits, in hexadecimal; an empty text if there are no files.
pub fn copy_companions(folder: &Path, companions: &[Companion]) -> Result<String> {
    let mut digest = Sha256::new();
    for companion in companions {
        let cannot = || Failure::user(format!("cannot copy `{}`", companion.source.display()));
        let (bytes, executable) = companion.read()?;
        let place = folder.join(&companion.path);
        file::create_private_folder(place.parent().unwrap_or(folder))?;
        let mode = if executable { 0o700 } else { 0o600 };
        file::write(&place, &bytes)?;
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).explain(cannot)?;
        digest.update(companion.path.as_os_str().as_encoded_bytes());
        digest.update([0, u8::from(executable)]);
        digest.update(Sha256::digest(&bytes));
    }
    Ok(if companions.is_empty() { String::new() } else { format!("{:x}", digest.finalize()) })
}

/// Returns the relative paths in a Nix file, each up to the first `${`.
fn paths(text: &str) -> Vec<String> {
    let tokens = rnix::tokenize(text);
    let mut found = Vec::new();
    for (at, (kind, token)) in tokens.iter().enumerate() {
        if *kind != SyntaxKind::TOKEN_PATH || token.starts_with(['/', '~', '<']) {
            continue;
        }
        let goes_on = tokens.get(at + 1).is_some_and(|(next, _)| *next == SyntaxKind::TOKEN_INTERPOL_START);
        let whole = if goes_on { token.rsplit_once('/').map_or("", |(folder, _)| folder) } else { token };
        found.push(whole.to_owned());
    }
    found
}

struct Search<'a> {
    /// The machine's folder, with all links resolved.
    root: PathBuf,
    machine: &'a MachineName,
    found: BTreeSet<Companion>,
    bytes: u64,
}

impl Search<'_> {
    /// Adds the files that `path` in a file in `base` leads to, and returns those among them that may name others.
    fn add(&mut self, base: &Path, path: &str) -> Result<Vec<Companion>> {
        // Nix itself reports a path that leads out of the folder, or nowhere.
        let Some(path) = plain(&base.join(path)) else { return Ok(Vec::new()) };
        let Ok(source) = self.root.join(&path).canonicalize() else { return Ok(Vec::new()) };
        if !source.starts_with(&self.root) {
            return Err(self.refuse(&path, "is a link that leads out of the machine's folder"));
        }
        let mut new = Vec::new();
        if source.is_dir() {
            let own = path.as_os_str().is_empty() || source == self.root;
            for entry in WalkDir::new(&source) {
                let entry = entry.explain(|| Failure::user(format!("cannot read `{}`", source.display())))?;
                let below = entry.path().strip_prefix(&source).unwrap_or(entry.path());
                if entry.file_type().is_file() && (!own || is_public(below, &entry)) {
                    new.extend(self.add_file(path.join(below), entry.path().to_owned(), own)?);
                }
            }
        } else {
            new.extend(self.add_file(path, source, false)?);
        }
        new.retain(|companion| companion.path.extension() == Some(OsStr::new("nix")));
        Ok(new)
    }

    fn add_file(&mut self, path: PathBuf, source: PathBuf, by_the_way: bool) -> Result<Option<Companion>> {
        if path == Path::new("extra.nix") || path == Path::new("profile") {
            return Ok(None);
        }
        if path == Path::new("default.nix") {
            return Err(self.refuse(&path, "has the name of the module that nixvm makes"));
        }
        let is_secret =
            |name: Option<&OsStr>| name.is_some_and(|name| MACHINE_SECRETS.iter().any(|it| name == *it));
        let companion = Companion { path, source };
        if is_secret(companion.path.file_name())
            || is_secret(companion.source.file_name())
            || companion.is_private_key()?
        {
            if by_the_way {
                return Ok(None);
            }
            return Err(
                self.refuse(&companion.path, "is a secret, and every user of this host can read Nix's store")
            );
        }
        self.bytes += fs::metadata(&companion.source).map_or(0, |file| file.len());
        if self.bytes > LARGEST {
            return Err(self
                .refuse(&companion.path, "and the other files that extra.nix names have more than 64 MiB"));
        }
        Ok(self.found.insert(companion.clone()).then_some(companion))
    }

    fn refuse(&self, path: &Path, why: &str) -> anyhow::Error {
        Failure::user(format!("machines/{}/{} {why}", self.machine, path.display()))
            .hint(format!(
                "machines/{}/extra.nix or a file that it imports names it: change that, or put another file there",
                self.machine
            ))
            .into()
    }
}

/// Returns whether a path that leads to the whole machine's folder includes this file.
fn is_public(path: &Path, entry: &walkdir::DirEntry) -> bool {
    let hidden_or_secret =
        path.iter().any(|name| name.as_encoded_bytes().starts_with(b".") || is_secret_name(name));
    let own = MACHINE_FILES.iter().any(|name| path == Path::new(name));
    let open = entry.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0);
    !hidden_or_secret && !own && (open || path.extension() == Some(OsStr::new("nix")))
}

/// Returns a relative path without `.` and `..`; `None` if it leads out of its starting folder.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir if plain.pop() => {}
            _ => return None,
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Returns the folder of a machine with all kinds of files in it.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text, mode) in [
            ("ssh_host_ed25519_key", "-----BEGIN OPENSSH PRIVATE KEY-----\n", 0o600),
            ("root_password_hash", "$y$", 0o600),
            ("hostname", "web\n", 0o600),
            ("lib.nix", "{ text = builtins.readFile ./files/motd; }", 0o600),
            ("files/motd", "hello", 0o600),
            ("files/run.sh", "#!/bin/sh", 0o700),
            ("site/index.html", "<p>", 0o644),
            ("site/.well-known/x", "", 0o644),
            ("wg.conf", "PrivateKey = x", 0o600),
            ("open.conf", "", 0o644),
            ("api-token", "", 0o644),
            ("tls", "-----BEGIN PRIVATE KEY-----\n", 0o644),
            (".swp", "", 0o644),
            ("unused.txt", "", 0o600),
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        dir
    }

    fn search(dir: &Path, extra: &str) -> Result<Vec<Companion>> {
        companions(dir, &"web".parse().unwrap(), extra)
    }

    fn names(dir: &Path, extra: &str) -> Vec<String> {
        search(dir, extra).unwrap().iter().map(|it| it.path.display().to_string()).collect()
    }

    #[test]
    fn what_a_path_leads_to_goes_along_and_nothing_else() {
        let dir = folder();
        for (extra, found) in [
            ("{ }", &[][..]),
            ("{ imports = [ ./lib.nix ]; }", &["files/motd", "lib.nix"]),
            ("{ a = ./site; }", &["site/.well-known/x", "site/index.html"]),
            ("{ a = files/run.sh; }", &["files/run.sh"]),
            ("{ a = ./files/${x}; }", &["files/motd", "files/run.sh"]),
            ("{ a = ./. + \"/lib.nix\"; }", &["files/motd", "lib.nix", "open.conf", "site/index.html"]),
            ("{ a = ./wg.conf; b = ./hostname; c = ./extra.nix; }", &["hostname", "wg.conf"]),
            ("{ a = ./missing; b = ../other/x; c = /etc/shadow; d = <nixpkgs>; e = ~/x; } # ./lib.nix", &[]),
            ("{ a = \"./lib.nix\"; b = ''./site''; }", &[]),
            ("{ a = \"${./files/motd}\"; }", &["files/motd"]),
        ] {
            assert_eq!(names(dir.path(), extra), found, "{extra}");
        }
    }

    #[test]
    fn secrets_and_what_lies_elsewhere_are_refused_by_name() {
        let dir = folder();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("x"), "").unwrap();
        fs::write(dir.path().join("default.nix"), "{ }").unwrap();
        symlink(elsewhere.path().join("x"), dir.path().join("out")).unwrap();
        symlink("root_password_hash", dir.path().join("hash")).unwrap();
        for (path, why) in [
            ("./ssh_host_ed25519_key", "is a secret"),
            ("./root_password_hash", "is a secret"),
            ("./hash", "is a secret"),
            ("./tls", "is a secret"),
            ("./out", "is a link that leads out"),
            ("./default.nix", "has the name of the module"),
        ] {
            let error = search(dir.path(), path).unwrap_err().to_string();
            assert!(error.starts_with(&format!("machines/web/{} {why}", &path[2..])), "{error}");
        }
    }

    #[test]
    fn the_digest_is_that_of_the_copies() {
        let dir = folder();
        let copy = |extra: &str| {
            let web = tempfile::tempdir().unwrap();
            let digest = copy_companions(web.path(), &search(dir.path(), extra).unwrap()).unwrap();
            let mut files: Vec<_> = WalkDir::new(web.path())
                .into_iter()
                .map(|entry| entry.unwrap())
                .filter(|entry| entry.file_type().is_file())
                .map(|entry| {
                    let name = entry.path().strip_prefix(web.path()).unwrap().display().to_string();
                    (name, entry.metadata().unwrap().permissions().mode() & 0o777)
                })
                .collect();
            files.sort();
            (digest, files)
        };
        let all = "[ ./lib.nix ./site ./files ]";
        let (with, files) = copy(all);
        let expected = [
            ("files/motd", 0o600),
            ("files/run.sh", 0o700),
            ("lib.nix", 0o600),
            ("site/.well-known/x", 0o600),
            ("site/index.html", 0o600),
        ];
        assert_eq!(files, expected.map(|(name, mode)| (name.to_owned(), mode)));
        assert_eq!(copy(all).0, with);

        // What is copied counts, and not what was there when it was found.
        let found = search(dir.path(), all).unwrap();
        fs::write(dir.path().join("files/motd"), "later").unwrap();
        let web = tempfile::tempdir().unwrap();
        let digest = copy_companions(web.path(), &found).unwrap();
        assert_eq!(fs::read_to_string(web.path().join("files/motd")).unwrap(), "later");
        assert!(digest != with && digest == copy(all).0);

        fs::set_permissions(dir.path().join("files/run.sh"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_ne!(copy(all).0, digest);
        assert_eq!(copy("{ }"), (String::new(), Vec::new()));
    }
}
