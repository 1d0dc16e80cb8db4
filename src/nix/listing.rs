//! The files of a workspace that Nix may see.
//!
//! Nix copies them to its store, where every local user can read them. So this rather leaves out too much: a missing file
//! fails the build with its name, while a secret too many fails nothing.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::error::{Explain, Failure, Result};
use crate::exec::Command;
use crate::model::HOSTS;
use crate::model::secret::{MACHINE_SECRETS, is_secret_name};

/// Top-level folders that hold secrets or build results.
pub(super) const NEVER: [&str; 3] = ["machines", "output", "target"];

/// Environment variables by which git looks at another repository than the one around its folder.
const GIT_ELSEWHERE: [&str; 5] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_CEILING_DIRECTORIES"];

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Files and links, by their paths in the workspace.
    pub files: BTreeSet<PathBuf>,
    /// Files that look like secrets and are left out.
    pub secret: BTreeSet<PathBuf>,
}

impl Listing {
    fn add(&mut self, path: PathBuf, tracked: bool) {
        if path.components().next().is_some_and(|first| NEVER.iter().any(|name| first.as_os_str() == *name))
            // Where machines are changes no system.
            || path == Path::new(HOSTS)
            || path.file_name().is_none_or(is_scratch)
        {
            return;
        }
        let names: Vec<&OsStr> = path.iter().collect();
        let (file, folders) = (names.last().copied().unwrap_or_default(), &names[..names.len() - 1]);
        let own = MACHINE_SECRETS.iter().any(|secret| file == *secret);
        if own || !tracked && (is_secret_name(file) || folders.iter().any(|folder| is_secret_name(folder))) {
            self.secret.insert(path);
        } else if tracked || !names.iter().any(|name| is_hidden(name)) {
            self.files.insert(path);
        }
    }
}

/// Lists the files of a workspace that Nix may see.
///
/// In a git tree: the files that git tracks or does not ignore, so that a new file need not be added first. Elsewhere: all
/// files that are neither hidden nor secret by their names. Never `machines/`, `output/` and `target/`.
pub(super) fn list(workspace: &Path) -> Result<Listing> {
    let mut listing = Listing::default();
    if in_git(workspace) {
        add_git(workspace, Path::new(""), &mut listing)?;
    }
    // A surrounding tree that ignores the workspace, such as one of dotfiles, does not count.
    if !listing.files.contains(Path::new("flake.nix")) {
        listing = Listing::default();
        add_all(workspace, Path::new(""), &mut listing)?;
    }
    // These two are always part of the flake, even if git ignores them.
    for name in ["flake.nix", "flake.lock"] {
        if fs::symlink_metadata(workspace.join(name)).is_ok() {
            listing.files.insert(name.into());
        }
    }
    Ok(listing)
}

fn in_git(folder: &Path) -> bool {
    folder.ancestors().any(is_repository)
}

fn is_repository(folder: &Path) -> bool {
    let git = folder.join(".git");
    git.is_file() || git.join("HEAD").exists()
}

/// Adds the files in the folder `below` that git tracks or does not ignore.
fn add_git(workspace: &Path, below: &Path, listing: &mut Listing) -> Result<()> {
    let folder = workspace.join(below);
    for (tracked, path) in git_files(&folder)? {
        if tracked && below.as_os_str().is_empty() && path.starts_with("output") {
            return Err(Failure::user(format!("git tracks `{}`", path.display()))
                .hint("nixvm makes `output/`: take it out of git with `git rm -r --cached output`, and list it in .gitignore")
                .into());
        }
        let inside = below.join(&path);
        match fs::symlink_metadata(folder.join(&path)) {
            // A submodule, or a repository inside the repository.
            Ok(metadata) if metadata.is_dir() && is_repository(&folder.join(&path)) && !is_never(&inside) => {
                add_git(workspace, &inside, listing)?;
            }
            Ok(metadata) if metadata.is_file() || metadata.is_symlink() => listing.add(inside, tracked),
            // Deleted but not committed yet, or a socket.
            _ => {}
        }
    }
    Ok(())
}

fn is_never(path: &Path) -> bool {
    NEVER.iter().any(|name| path.starts_with(name))
}

/// Returns each file that git lists, and whether git tracks it.
fn git_files(folder: &Path) -> Result<Vec<(bool, PathBuf)>> {
    let mut git = Command::new("git")
        .missing("install git: this folder is in a git tree, and only git knows which files are ignored")
        // Otherwise git runs a program that the tree's configuration names.
        .args(["-c", "core.fsmonitor=false", "-c", "core.untrackedCache=false"])
        .args(["ls-files", "-z", "-t", "--cached", "--others", "--exclude-standard"])
        .env("GIT_DISCOVERY_ACROSS_FILESYSTEM", "1")
        .current_dir(folder);
    for name in GIT_ELSEWHERE {
        git = git.without_env(name);
    }
    let printed = git.output().explain(|| {
        Failure::user(format!("cannot tell which files of `{}` are to be built", folder.display()))
            .hint("git must list them, because ignored files are not given to Nix; fix git's error above")
    })?;
    // `H name` is tracked, as are most other letters; `? name` is not.
    let entries = printed.split(|byte| *byte == 0).filter_map(|entry| entry.split_at_checked(2));
    Ok(entries.map(|(tag, name)| (tag != b"? ", PathBuf::from(OsStr::from_bytes(name)))).collect())
}

fn add_all(workspace: &Path, below: &Path, listing: &mut Listing) -> Result<()> {
    let root = workspace.join(below);
    let wanted = |entry: &DirEntry| {
        let path = entry.path().strip_prefix(workspace).unwrap_or(entry.path());
        path.as_os_str().is_empty() || !is_never(path) && !is_hidden(entry.file_name())
    };
    for entry in WalkDir::new(&root).into_iter().filter_entry(wanted) {
        let entry = entry.explain(|| Failure::user(format!("cannot read `{}`", root.display())))?;
        if (entry.file_type().is_file() || entry.file_type().is_symlink())
            && let Ok(path) = entry.path().strip_prefix(workspace)
        {
            listing.add(path.to_owned(), false);
        }
    }
    Ok(())
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

/// Links that `nix build` leaves, and files of git and direnv.
fn is_scratch(name: &OsStr) -> bool {
    name == "result" || name.as_bytes().starts_with(b"result-") || name == ".git" || name == ".direnv"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        dir
    }

    fn git(folder: &Path, arguments: &[&str]) {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"];
        Command::new("git").args(identity).args(arguments).current_dir(folder).output().unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        list(folder).unwrap().files.iter().map(|path| path.display().to_string()).collect()
    }

    const FILES: &[&str] = &[
        "flake.nix",
        "flake.lock",
        "lib.nix",
        "profiles/core.nix",
        "profiles/motd.txt",
        "profiles/secrets.nix",
        "profiles/machines/kept.nix",
        "machines/web/ssh_host_ed25519_key",
        "output/base",
        "target/debug/x",
        ".env",
        "keys/tls.key",
        "secrets/api",
        "profiles/api-token",
        "id_ed25519",
        "copy/root_password_hash",
        "web-20260121-171147.tar.zst",
    ];

    const SEEN: &[&str] = &[
        "flake.lock",
        "flake.nix",
        "lib.nix",
        "profiles/core.nix",
        "profiles/machines/kept.nix",
        "profiles/motd.txt",
        "profiles/secrets.nix",
    ];

    #[test]
    fn outside_git_all_is_seen_that_is_neither_hidden_nor_secret() {
        let dir = folder(FILES);
        assert_eq!(names(dir.path()), SEEN);
        let secret = list(dir.path()).unwrap().secret;
        assert_eq!(secret.len(), 6, "{secret:?}");
    }

    #[test]
    fn the_file_of_hosts_is_no_part_of_a_system_and_a_folder_of_that_name_is() {
        assert_eq!(
            names(folder(&["flake.nix", "hosts", "profiles/hosts", "lib.nix"]).path()),
            ["flake.nix", "lib.nix", "profiles/hosts"]
        );
        assert_eq!(names(folder(&["flake.nix", "hosts/web.nix"]).path()), ["flake.nix", "hosts/web.nix"]);
        let tracked = folder(&["flake.nix", "hosts"]);
        git(tracked.path(), &["init", "-q"]);
        git(tracked.path(), &["add", "hosts", "flake.nix"]);
        assert_eq!(names(tracked.path()), ["flake.nix"]);
    }

    #[test]
    fn in_a_git_tree_what_is_tracked_or_not_ignored_is_seen() {
        let dir = folder(FILES);
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        git(dir.path(), &["init", "-q"]);
        assert_eq!(names(dir.path()), SEEN, "nothing was added yet");
        write(".gitignore", "/machines\n/output\nprofiles/motd.txt\nlib.nix\nflake.lock\n");
        // A file that the user committed is no secret to them, except a machine's secrets; an ignored file that was added
        // by force is tracked.
        git(dir.path(), &["add", "-f", "keys", ".gitignore", "lib.nix", "copy", "profiles/core.nix"]);
        fs::remove_file(dir.path().join("profiles/core.nix")).unwrap();
        let expected: Vec<&str> = [
            ".gitignore",
            "flake.lock",
            "flake.nix",
            "keys/tls.key",
            "lib.nix",
            "profiles/machines/kept.nix",
            "profiles/secrets.nix",
        ]
        .into();
        assert_eq!(names(dir.path()), expected);
        git(dir.path(), &["add", "-f", "output/base"]);
        let refused = list(dir.path()).unwrap_err();
        assert_eq!(refused.to_string(), "git tracks `output/base`");
    }

    #[test]
    fn a_workspace_below_a_tree_is_asked_of_it_unless_that_ignores_it() {
        let dir = folder(&["w/flake.nix", "w/profiles/a.nix", "w/scratch.txt", "other.nix"]);
        git(dir.path(), &["init", "-q"]);
        fs::write(dir.path().join(".gitignore"), "scratch.txt\n").unwrap();
        let w = dir.path().join("w");
        assert_eq!(names(&w), ["flake.nix", "profiles/a.nix"]);
        fs::write(dir.path().join(".gitignore"), "*\n").unwrap();
        assert_eq!(names(&w), ["flake.nix", "profiles/a.nix", "scratch.txt"]);
    }

    #[test]
    fn a_repository_within_is_looked_into() {
        let dir = folder(&["flake.nix", "profiles/a.nix", "shared/b.nix", "shared/ignored.nix"]);
        git(dir.path(), &["init", "-q"]);
        git(&dir.path().join("shared"), &["init", "-q"]);
        fs::write(dir.path().join("shared/.gitignore"), "ignored.nix\n").unwrap();
        assert_eq!(names(dir.path()), ["flake.nix", "profiles/a.nix", "shared/b.nix"]);
    }

    #[test]
    fn a_folder_called_git_that_is_no_repository_says_nothing() {
        let dir = folder(&["flake.nix", "profiles/a.nix"]);
        fs::create_dir(dir.path().join(".git")).unwrap();
        assert_eq!(names(dir.path()), ["flake.nix", "profiles/a.nix"]);
    }
}
