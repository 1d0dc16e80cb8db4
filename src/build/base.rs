//! The nixpkgs that `output/base` names for a workspace, and whether this user chose it.
//!
//! A folder that somebody else made may bring the file along: a tarball, `cp -a`, an archive. The file decides what runs in
//! every machine, so the user's own copy of it, outside the workspace, must say the same. Only the offline base in the user's
//! own cache needs no copy, because this user built it.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config::Workspace;
use crate::error::{Failure, Result};
use crate::exec;
use crate::file;
use crate::nix::reference;

/// Returns the flake reference that `output/base` names, if any; one that this user did not choose is an error. quickstart
/// builds the offline base in `cache`; `choices` has the user's copies of `output/base`.
pub fn chosen(workspace: &Workspace, cache: &Path, choices: &Path) -> Result<Option<String>> {
    let file = workspace.base_file();
    let Some(named) = line(&file)? else { return Ok(None) };
    let own_copy = copy(workspace, choices);
    if is_offline_base(&named, cache) || line(&own_copy)?.as_ref() == Some(&named) {
        return Ok(Some(reference::typed(&named, workspace.root())));
    }
    let [shown, own_copy] = [&file, &own_copy].map(|path| exec::quoted(&path.display().to_string()));
    Err(Failure::user(format!("output/base names the nixpkgs `{named}`, and you have not confirmed it"))
        .hint(format!(
            "it may have come with this folder. If it is your choice, confirm it: `install -D -m 600 {shown} {own_copy}`. If not, delete it: `rm {shown}`; machines are then built from the locked nixpkgs"
        ))
        .into())
}

/// Returns the text of a file without blanks around it; `None` where that is nothing.
fn line(file: &Path) -> Result<Option<String>> {
    let text = file::read(file)?.map(|text| text.trim().to_owned());
    Ok(text.filter(|line| !line.is_empty()))
}

/// Returns the file with the user's own copy of `output/base`, named after the workspace's path.
fn copy(workspace: &Workspace, choices: &Path) -> PathBuf {
    let root = workspace.root();
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    choices.join(format!("{:x}", Sha256::digest(root.as_os_str().as_encoded_bytes())))
}

/// quickstart resolves all links in the path that it writes.
fn is_offline_base(named: &str, cache: &Path) -> bool {
    let base = cache.join("offline");
    let base = base.canonicalize().unwrap_or(base);
    named == reference::of_path(&base)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_what_this_user_chose_for_this_folder_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().canonicalize().unwrap().join(name);
        let workspace = |name: &str, base: &str| {
            fs::create_dir_all(at(name).join("output")).unwrap();
            fs::create_dir_all(at(name).join("profiles")).unwrap();
            fs::write(at(name).join("flake.nix"), "{ }").unwrap();
            fs::write(at(name).join("output/base"), base).unwrap();
            Workspace::at(&at(name)).unwrap()
        };
        let (cache, choices) = (at("my cache"), at("choices"));
        fs::create_dir_all(cache.join("offline")).unwrap();
        let taken = |workspace: &Workspace| chosen(workspace, &cache, &choices).map_err(|e| e.to_string());

        let mine = workspace("mine", "github:my/nixpkgs\n");
        let refused = taken(&mine).unwrap_err();
        assert!(refused.contains("`github:my/nixpkgs`, and you have not confirmed it"), "{refused}");
        fs::create_dir(&choices).unwrap();
        fs::copy(mine.base_file(), copy(&mine, &choices)).unwrap();
        assert_eq!(taken(&mine), Ok(Some("github:my/nixpkgs".into())));
        // The same line elsewhere, another line here, and what only contains the confirmed one.
        assert!(taken(&workspace("copied", "github:my/nixpkgs\n")).is_err());
        assert!(taken(&workspace("mine", "github:other/nixpkgs\n")).is_err());
        assert!(taken(&workspace("mine", "github:my/nixpkgs\ngithub:other/nixpkgs\n")).is_err());

        let offline = reference::of_path(&cache.join("offline"));
        assert!(offline.contains("my%20cache"), "{offline}");
        assert_eq!(taken(&workspace("new", &offline)), Ok(Some(offline.clone())));
        assert!(taken(&workspace("new", &format!("{offline}/../other"))).is_err());
        assert_eq!(taken(&workspace("new", "\n")), Ok(None));
        fs::remove_file(at("new/output/base")).unwrap();
        assert_eq!(taken(&Workspace::at(&at("new")).unwrap()), Ok(None));
    }
}
