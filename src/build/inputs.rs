//! The workspace's lock file: completed before the first build, and never updated by a build.
//!
//! Without a lock, every build would use the current revision of each branch, under a digest that stays the same.

use std::fs;

use sha2::{Digest, Sha256};

use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::host::{Setup, Watch};
use crate::nix::{self, Lock, Staged};

/// The input that `--nixpkgs` and `output/base` replace.
pub const NIXPKGS: &str = "nixpkgs";

/// Locks the inputs that are not locked yet, in the staged flake and in the workspace.
///
/// nixpkgs is left alone if another one replaces it: without a network it might not be found.
pub fn complete(setup: &Setup, staged: &mut Staged, nixpkgs: Option<&str>, watch: &dyn Watch) -> Result<()> {
    let known = setup.workspace.output_dir().join("locked");
    if fs::read_to_string(&known).is_ok_and(|state| state == state_of(staged, nixpkgs)) {
        return Ok(());
    }
    let before = read(staged)?;
    let after = relock(staged, &before, nixpkgs).explain(|| {
        Failure::user("cannot lock the inputs of flake.nix; nothing was changed")
            .hint("fix the error of Nix above: flake.nix has the URLs of the inputs, and `--nixpkgs`, NIXVM_NIXPKGS or output/base names a nixpkgs that replaces the locked one")
    })?;
    if after != before {
        write(setup, staged, &after)?;
        let moved: Vec<String> = after.moved_since(&before).into_iter().map(|moved| moved.input).collect();
        let inputs = if moved.is_empty() { "all inputs".to_owned() } else { moved.join(", ") };
        watch.note(&format!(
            "flake.lock now locks {inputs}: builds use these revisions until `nixvm update` moves them"
        ));
    }
    file::replace(&known, state_of(staged, nixpkgs))
}

pub fn read(staged: &Staged) -> Result<Lock> {
    Lock::parse(file::read(&staged.folder().join("flake.lock"))?.as_deref())
}

/// Has Nix lock the inputs that `lock` does not, and returns the result, which the staged flake then has too.
pub fn relock(staged: &mut Staged, lock: &Lock, nixpkgs: Option<&str>) -> Result<Lock> {
    let path = staged.folder().join("flake.lock");
    let original = file::read(&path)?;
    file::replace(&path, lock.text())?;
    nix::lock(staged.folder(), nixpkgs)?;
    let made = read(staged)?;
    let made = if nixpkgs.is_some() { made.with_input_of(lock, NIXPKGS) } else { made };
    match original {
        // Keep the layout of a file that says the same.
        Some(text) if Lock::parse(Some(&text))? == made => file::replace(&path, text)?,
        _ => file::replace(&path, made.text())?,
    }
    staged.lock_changed()?;
    Ok(made)
}

pub fn write(setup: &Setup, staged: &Staged, lock: &Lock) -> Result<()> {
    let path = setup.workspace.root().join("flake.lock");
    // Staging has checked that a link leads to a file of the workspace.
    let path = path.canonicalize().unwrap_or(path);
    debug_assert!(read(staged).is_ok_and(|staged| staged == *lock));
    file::replace_shared(&path, lock.text())
}

/// Returns a digest of the flake.nix, the lock file and the kind of nixpkgs for which every input is known to be locked.
fn state_of(staged: &Staged, nixpkgs: Option<&str>) -> String {
    let mut state = Sha256::new();
    for name in ["flake.nix", "flake.lock"] {
        state.update(fs::read(staged.folder().join(name)).unwrap_or_default());
        state.update([0]);
    }
    state.update([u8::from(nixpkgs.is_some())]);
    format!("{:x}\n", state.finalize())
}
