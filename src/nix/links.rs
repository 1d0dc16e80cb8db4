//! Symbolic links in the workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::error::{Explain, Failure, Result};

/// Drops files below a link to a folder: git still lists tracked files where a link has replaced their folder.
pub(super) fn without_links_above(workspace: &Path, files: BTreeSet<PathBuf>) -> Result<BTreeSet<PathBuf>> {
    let mut folders: BTreeMap<PathBuf, bool> = BTreeMap::new();
    let mut kept = BTreeSet::new();
    for path in files {
        let folder = workspace.join(path.parent().unwrap_or(Path::new("")));
        let is_itself = if let Some(known) = folders.get(&folder) {
            *known
        } else {
            let found = folder
                .canonicalize()
                .explain(|| Failure::user(format!("cannot enter `{}`", folder.display())))?;
            // `==` compares components: the workspace's own path ends in a slash here.
            let is_itself = found == folder;
            folders.insert(folder, is_itself);
            is_itself
        };
        if is_itself {
            kept.insert(path);
        }
    }
    Ok(kept)
}

/// Returns the target of the link `path` in the copy; `None` for a dangling one, such as an editor's lock.
pub(super) fn target_of(
    workspace: &Path,
    path: &Path,
    staged: &BTreeMap<PathBuf, [u8; 32]>,
) -> Result<Option<PathBuf>> {
    let Ok(found) = workspace.join(path).canonicalize() else { return Ok(None) };
    let refused = |leads: String| {
        Failure::user(format!("`{}` is a link that leads {leads}, which Nix may not see", path.display()))
            .hint("Nix copies files to its store, where every user of this host can read them: replace the link by the file itself, or delete the link")
    };
    let Ok(inside) = found.strip_prefix(workspace) else {
        return Err(refused(format!("out of the workspace, to `{}`", found.display())).into());
    };
    if !staged.keys().any(|file| file.starts_with(inside)) {
        return Err(refused(format!("to `{}`", inside.display())).into());
    }
    Ok(Some(relative(path.parent().unwrap_or(Path::new("")), inside)))
}

/// Returns the path from one folder to another place; both are relative to the same root.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let (from, to): (Vec<Component>, Vec<Component>) =
        (from.components().collect(), to.components().collect());
    let common = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
    let up = std::iter::repeat_n(Component::ParentDir, from.len() - common);
    let path: PathBuf = up.chain(to[common..].iter().copied()).collect();
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}
