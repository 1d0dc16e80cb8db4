//! The copy of the workspace's flake that Nix is given.
//!
//! Nix copies a flake's whole folder to the world-readable store: of a git tree
//! what git tracks, of any other folder everything, `machines/` with its
//! secrets and `target/` included. So Nix never sees the workspace itself but a
//! copy of the parts that make up the flake. That is one code path for a git
//! tree, a dirty one and none, and a profile that was just written need not be
//! added to git first.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::error::{Explain, Failure, Result};

/// What makes up a flake, beside what its inputs bring.
const PARTS: [&str; 5] = ["flake.nix", "flake.lock", "modules", "profiles", "nix"];

/// Makes `target` a copy of the flake in `workspace`, and returns the SHA-256 of its files' names and contents in hexadecimal.
///
/// # Errors
/// The workspace has no `flake.nix`, or a file cannot be read or written.
pub fn stage(workspace: &Path, target: &Path) -> Result<String> {
    if !workspace.join("flake.nix").is_file() {
        return Err(Failure::user(format!("`{}` holds no flake.nix", workspace.display()))
            .hint("run nixvm in a workspace, or name one with `-C DIR`; `nix flake init` makes one")
            .into());
    }
    let wanted = files(workspace, PARTS.iter().map(|part| workspace.join(part)))?;
    let present = if target.exists() { files(target, [target.to_owned()])? } else { BTreeSet::new() };

    for stale in present.difference(&wanted) {
        let path = target.join(stale);
        fs::remove_file(&path).explain(|| Failure::user(format!("cannot remove `{}`", path.display())))?;
    }
    let mut digest = Sha256::new();
    for name in &wanted {
        let contents = copy(&workspace.join(name), &target.join(name))?;
        digest.update(name.as_os_str().as_encoded_bytes());
        digest.update([0]);
        digest.update(Sha256::digest(&contents));
    }
    Ok(format!("{:x}", digest.finalize()))
}

/// Returns the regular files below `roots`, relative to `base`.
fn files(base: &Path, roots: impl IntoIterator<Item = PathBuf>) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for root in roots.into_iter().filter(|root| root.exists()) {
        for entry in WalkDir::new(&root).follow_links(true) {
            let entry = entry.explain(|| Failure::user(format!("cannot read `{}`", root.display())))?;
            if entry.file_type().is_file()
                && let Ok(name) = entry.path().strip_prefix(base)
            {
                found.insert(name.to_owned());
            }
        }
    }
    Ok(found)
}

/// Makes `target` the same as `source` and returns what they hold; a file that is the same already is left alone.
fn copy(source: &Path, target: &Path) -> Result<Vec<u8>> {
    let wanted = fs::read(source).explain(|| Failure::user(format!("cannot read `{}`", source.display())))?;
    if fs::read(target).is_ok_and(|present| present == wanted) {
        return Ok(wanted);
    }
    let written = || -> std::io::Result<()> {
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(target, &wanted)
    };
    written().explain(|| Failure::user(format!("cannot write `{}`", target.display())))?;
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_flakes_own_files_are_copied_and_stale_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        for file in [
            "flake.nix",
            "modules/a.nix",
            "profiles/core.nix",
            "machines/web/ssh_host_ed25519_key",
            "target/x",
        ] {
            fs::create_dir_all(from.join(file).parent().unwrap()).unwrap();
            fs::write(from.join(file), file).unwrap();
        }
        let first = stage(&from, &to).unwrap();
        assert_eq!(stage(&from, &to).unwrap(), first);
        assert_eq!(fs::read_to_string(to.join("profiles/core.nix")).unwrap(), "profiles/core.nix");
        assert!(!to.join("machines").exists() && !to.join("target").exists());

        fs::remove_file(from.join("profiles/core.nix")).unwrap();
        fs::write(from.join("modules/a.nix"), "new").unwrap();
        assert_ne!(stage(&from, &to).unwrap(), first);
        assert!(!to.join("profiles/core.nix").exists());
        assert_eq!(fs::read_to_string(to.join("modules/a.nix")).unwrap(), "new");
    }

    #[test]
    fn a_folder_that_is_no_flake_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(stage(dir.path(), &dir.path().join("out")).is_err());
    }
}
