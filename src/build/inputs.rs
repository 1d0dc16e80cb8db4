//! The workspace's lock file: made complete before the first build, and never moved by a build.
//!
//! Without a lock every build would take what a branch leads to on that day, under a digest that stays the same.

use std::fs;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::host::{Setup, Watch};
use crate::nix::{self, Lock, Staged};

/// The input that `--nixpkgs` and `output/base` replace.
pub const NIXPKGS: &str = "nixpkgs";

/// Locks what no lock file locks yet, in the staged flake and in the workspace.
///
/// nixpkgs is left alone where another is built from: it may be that no network is there to look it up.
///
/// # Errors
/// An input cannot be fetched, or the lock file cannot be written.
pub fn complete(setup: &Setup, staged: &mut Staged, nixpkgs: Option<&str>, watch: &dyn Watch) -> Result<()> {
    let known = setup.workspace.output_dir().join("locked");
    if fs::read_to_string(&known).is_ok_and(|state| state == state_of(staged, nixpkgs)) {
        return Ok(());
    }
    let before = read(staged)?;
    let after = relock(staged, &before, nixpkgs).explain(|| {
        Failure::user("cannot lock the inputs of flake.nix; nothing was changed")
            .hint("do what Nix says above: the URLs of the inputs stand in flake.nix, and what replaces nixpkgs in `--nixpkgs`, NIXVM_NIXPKGS or output/base")
    })?;
    if after != before {
        write(setup, staged, &after)?;
        let inputs: Vec<String> =
            after.moved_since(&before).iter().map(|moved| moved.input.clone()).collect();
        watch.note(&format!(
            "flake.lock now locks {}: builds stay with these revisions until `nixvm update` moves them",
            if inputs.is_empty() { "all inputs".to_owned() } else { inputs.join(", ") }
        ));
    }
    file::replace(&known, state_of(staged, nixpkgs))
}

/// Returns the lock of the staged flake.
///
/// # Errors
/// It cannot be read, or is none.
pub fn read(staged: &Staged) -> Result<Lock> {
    Lock::parse(file::read(&staged.folder().join("flake.lock"))?.as_deref())
}

/// Has Nix lock what `lock` does not, and returns the result; the staged flake has that lock then.
///
/// # Errors
/// An input cannot be fetched.
pub fn relock(staged: &mut Staged, lock: &Lock, nixpkgs: Option<&str>) -> Result<Lock> {
    let path = staged.folder().join("flake.lock");
    let original = file::read(&path)?;
    file::replace(&path, lock.text())?;
    nix::lock(staged.folder(), nixpkgs)?;
    let made = read(staged)?;
    let made = if nixpkgs.is_some() { made.with_input_of(lock, NIXPKGS) } else { made };
    match original {
        // As somebody wrote it.
        Some(text) if Lock::parse(Some(&text))? == made => file::replace(&path, text)?,
        _ => file::replace(&path, made.text())?,
    }
    staged.lock_changed()?;
    Ok(made)
}

/// Writes a lock into the workspace.
///
/// # Errors
/// The file cannot be written.
pub fn write(setup: &Setup, staged: &Staged, lock: &Lock) -> Result<PathBuf> {
    let path = setup.workspace.root().join("flake.lock");
    // A link was seen to lead to a file of the workspace when the flake was staged.
    let path = path.canonicalize().unwrap_or(path);
    debug_assert!(read(staged).is_ok_and(|staged| staged == *lock));
    file::replace_shared(&path, lock.text())?;
    Ok(path)
}

/// Returns a text that says of which flake.nix, lock file and kind of nixpkgs it is known that everything is locked.
fn state_of(staged: &Staged, nixpkgs: Option<&str>) -> String {
    let mut state = Sha256::new();
    for name in ["flake.nix", "flake.lock"] {
        state.update(fs::read(staged.folder().join(name)).unwrap_or_default());
        state.update([0]);
    }
    state.update([u8::from(nixpkgs.is_some())]);
    format!("{:x}\n", state.finalize())
}
