//! The copy of the workspace's flake that Nix is given.
//!
//! Nix copies a flake's folder to the world-readable store: of a git tree what git tracks, of any other folder everything,
//! including `machines/` with its secrets and `target/`. So Nix gets a copy of the files that `listing` finds. They are read
//! once: the hash is that of the built files, whatever is written to the workspace meanwhile.
//!
//! The copy is made in a new folder that only its owner may enter. Nothing in the workspace can redirect the copying: links
//! are never read through, and an old copy is only renamed and deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Explain, Failure, Result};
use crate::file::{self, UnfinishedFolder};
use crate::model::secret::is_private_key;

use super::links::{target_of, without_links_above};
use super::listing::{self, Listing};

/// Most bytes of a workspace that are copied to Nix's store at every change. Larger contents are hardly text, and probably
/// not there on purpose.
const LARGEST: u64 = 512 << 20;

const START: u64 = 64 << 10;

#[derive(Debug)]
pub struct Staged {
    folder: UnfinishedFolder,
    digests: BTreeMap<PathBuf, [u8; 32]>,
    /// Files that look like secrets and were left out, by their paths in the workspace.
    pub left_out: BTreeSet<PathBuf>,
}

impl Staged {
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// SHA-256 of the files' names, contents and execute bits, in hexadecimal.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for (path, of_file) in &self.digests {
            digest.update(path.as_os_str().as_encoded_bytes());
            digest.update([0]);
            digest.update(of_file);
        }
        format!("{:x}", digest.finalize())
    }

    /// Reads the copy's lock file again after Nix has changed it.
    pub fn lock_changed(&mut self) -> Result<()> {
        let path = self.folder().join(LOCK);
        let bytes = fs::read(&path).explain(|| Failure::user(format!("cannot read `{}`", path.display())))?;
        self.digests.insert(LOCK.into(), digest_of(b"file", &bytes));
        Ok(())
    }

    /// Moves the copy to `target`, for people to look at, and replaces what is there.
    pub fn publish(self, target: &Path) -> Result<()> {
        file::give_folder_to_owner(self.folder.path())?;
        file::replace_folder(self.folder.path(), target)
    }
}

const LOCK: &str = "flake.lock";

/// Copies the flake in `workspace` to a new folder in `output`.
pub fn stage(workspace: &Path, output: &Path) -> Result<Staged> {
    if !workspace.join("flake.nix").is_file() {
        return Err(Failure::user(format!("`{}` has no flake.nix", workspace.display()))
            .hint("run nixvm in a workspace, or name one with `-C DIR`; `nix flake init` makes one")
            .into());
    }
    let workspace = workspace
        .canonicalize()
        .explain(|| Failure::user(format!("cannot enter `{}`", workspace.display())))?;
    let Listing { files, secret } = listing::list(&workspace)?;
    let files = without_links_above(&workspace, files)?;
    check_size(&workspace, &files)?;
    let folder = file::private_folder_in(output)?;
    let mut staged = Staged { folder, digests: BTreeMap::new(), left_out: secret };
    let mut links = Vec::new();
    for path in files {
        if workspace.join(&path).is_symlink() {
            links.push(path);
        } else if let Some(digest) = copy(&workspace.join(&path), &staged.folder().join(&path))? {
            staged.digests.insert(path, digest);
        } else {
            staged.left_out.insert(path);
        }
    }
    // Links come last, because their targets must be there.
    for path in links {
        if let Some(target) = target_of(&workspace, &path, &staged.digests)? {
            let place = staged.folder().join(&path);
            make_parents(&place)
                .and_then(|()| symlink(&target, &place))
                .explain(|| Failure::user(format!("cannot write `{}`", place.display())))?;
            staged.digests.insert(path, digest_of(b"link", target.as_os_str().as_encoded_bytes()));
        }
    }
    Ok(staged)
}

fn check_size(workspace: &Path, files: &BTreeSet<PathBuf>) -> Result<()> {
    let size = |path: &PathBuf| fs::symlink_metadata(workspace.join(path)).map_or(0, |file| file.len());
    let sum: u64 = files.iter().map(size).sum();
    let Some(largest) = files.iter().max_by_key(|path| size(path)).filter(|_| sum > LARGEST) else {
        return Ok(());
    };
    Err(Failure::user(format!(
        "the workspace has {} MiB of files that Nix would copy to its store, the largest being `{}`",
        sum >> 20,
        largest.display()
    ))
    .hint("move them out of the workspace or into output/, or keep the workspace in git and list them in .gitignore")
    .into())
}

fn digest_of(kind: &[u8], contents: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(kind);
    digest.update([0]);
    digest.update(contents);
    digest.finalize().into()
}

fn make_parents(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |folder| DirBuilder::new().recursive(true).mode(0o700).create(folder))
}

/// Copies a regular file with its execute bit, and returns the digest of both; `None` for a private key.
fn copy(source: &Path, target: &Path) -> Result<Option<[u8; 32]>> {
    let cannot = || Failure::user(format!("cannot read `{}`", source.display()));
    let mut file = file::open_itself(source).explain(cannot)?;
    let metadata = file.metadata().explain(cannot)?;
    if !metadata.is_file() {
        return Err(cannot().because(Failure::user("it is no longer a regular file")).into());
    }
    let executable = metadata.mode() & 0o100 != 0;
    let mut start = Vec::new();
    (&mut file).take(START).read_to_end(&mut start).explain(cannot)?;
    if is_private_key(&start) {
        return Ok(None);
    }
    let write = || -> std::io::Result<[u8; 32]> {
        make_parents(target)?;
        let mode = if executable { 0o700 } else { 0o600 };
        let mut written = OpenOptions::new().write(true).create_new(true).mode(mode).open(target)?;
        let mut digest = Sha256::new();
        digest.update(if executable { b"program".as_slice() } else { b"file" });
        digest.update([0]);
        let mut block = start;
        while !block.is_empty() {
            digest.update(&block);
            written.write_all(&block)?;
            block.clear();
            (&mut file).take(START).read_to_end(&mut block)?;
        }
        Ok(digest.finalize().into())
    };
    write()
        .map(Some)
        .explain(|| Failure::user(format!("cannot copy `{}` to `{}`", source.display(), target.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;
    use crate::nix::require_own_output;
    use std::os::unix::fs::PermissionsExt;

    /// Returns a workspace with an empty `output/`.
    fn workspace() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        for file in ["flake.nix", "modules/a.nix", "profiles/core.nix", "machines/web/ssh_host_ed25519_key"] {
            write(dir.path(), file, file);
        }
        let output = dir.path().join("output");
        require_own_output(dir.path(), &output).unwrap();
        (dir, output)
    }

    fn write(root: &Path, name: &str, text: &str) {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), text).unwrap();
    }

    fn staged(dir: &tempfile::TempDir, output: &Path) -> Staged {
        stage(dir.path(), output).unwrap()
    }

    #[test]
    fn what_is_staged_is_a_closed_copy_and_each_change_is_another_digest() {
        let (dir, output) = workspace();
        write(dir.path(), "profiles/tool.sh", "#!/bin/sh\n");
        write(dir.path(), "profiles/files/motd", "hello");
        let target = output.join("flake");
        let first = staged(&dir, &output);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(first.folder()), 0o700);
        assert_eq!(mode(&first.folder().join("profiles")), 0o700);
        let mut digests = vec![first.digest()];
        first.publish(&target).unwrap();
        assert_eq!(staged(&dir, &output).digest(), digests[0]);
        assert_eq!(fs::read_to_string(target.join("profiles/files/motd")).unwrap(), "hello");
        assert!(!target.join("machines").exists());

        let changes: [&dyn Fn(); 4] = [
            &|| write(dir.path(), "profiles/files/motd", "bye"),
            &|| {
                fs::set_permissions(dir.path().join("profiles/tool.sh"), fs::Permissions::from_mode(0o755))
                    .unwrap();
            },
            &|| symlink("core.nix", dir.path().join("profiles/other.nix")).unwrap(),
            &|| fs::remove_file(dir.path().join("modules/a.nix")).unwrap(),
        ];
        for change in changes {
            change();
            let next = staged(&dir, &output);
            assert!(!digests.contains(&next.digest()));
            digests.push(next.digest());
            next.publish(&target).unwrap();
        }
        assert_eq!(mode(&target.join("profiles/tool.sh")), 0o700);
        assert_eq!(mode(&target.join("profiles/files/motd")), 0o600);
        assert!(!target.join("modules").exists());
        assert_eq!(fs::read_link(target.join("profiles/other.nix")).unwrap(), Path::new("core.nix"));
        assert_eq!(fs::read_dir(&output).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_lies_in_the_place_of_the_copy_leads_nowhere() {
        let (dir, output) = workspace();
        let precious = tempfile::tempdir().unwrap();
        write(precious.path(), "file", "precious");
        fs::create_dir(output.join("flake")).unwrap();
        symlink(precious.path(), output.join("flake/d")).unwrap();
        fs::create_dir(output.join("flake/profiles")).unwrap();
        symlink(precious.path().join("file"), output.join("flake/profiles/core.nix")).unwrap();
        staged(&dir, &output).publish(&output.join("flake")).unwrap();
        fs::remove_dir_all(output.join("flake")).unwrap();
        symlink(precious.path(), output.join("flake")).unwrap();
        staged(&dir, &output).publish(&output.join("flake")).unwrap();
        assert!(!output.join("flake").is_symlink());
        assert_eq!(fs::read_to_string(precious.path().join("file")).unwrap(), "precious");
        assert_eq!(fs::read_dir(precious.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_to_what_nix_may_not_see_is_refused_by_name() {
        let elsewhere = tempfile::tempdir().unwrap();
        write(elsewhere.path(), "secret", "");
        for (link, target, leads) in [
            ("profiles/m", "../machines", "to `machines`"),
            (
                "profiles/key",
                "../machines/web/ssh_host_ed25519_key",
                "to `machines/web/ssh_host_ed25519_key`",
            ),
            ("lib.nix", elsewhere.path().join("secret").to_str().unwrap(), "out of the workspace"),
            ("modules/all", elsewhere.path().to_str().unwrap(), "out of the workspace"),
            ("profiles/o", "../output", "to `output`"),
        ] {
            let (dir, output) = workspace();
            symlink(target, dir.path().join(link)).unwrap();
            let report = Report::of(&stage(dir.path(), &output).unwrap_err());
            assert!(
                report.error.starts_with(&format!("`{link}` is a link that leads {leads}")),
                "{report:?}"
            );
            assert_eq!(fs::read_dir(&output).unwrap().count(), 0);
        }
    }

    #[test]
    fn links_within_lead_to_the_copies_and_broken_ones_are_left_out() {
        let (dir, output) = workspace();
        let root = dir.path().canonicalize().unwrap();
        symlink(root.join("modules"), root.join("profiles/all")).unwrap();
        symlink("/nowhere/me@host.1", root.join("profiles/#core.nix")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let staged = staged(&dir, &output);
        assert_eq!(fs::read_link(staged.folder().join("profiles/all")).unwrap(), Path::new("../modules"));
        assert!(fs::symlink_metadata(staged.folder().join("profiles/#core.nix")).is_err());
        assert!(fs::symlink_metadata(staged.folder().join("loop")).is_err());
    }

    #[test]
    fn a_private_key_is_left_out_whatever_it_is_called() {
        let (dir, output) = workspace();
        write(dir.path(), "profiles/cert", "-----BEGIN CERTIFICATE-----\n");
        for (name, kind) in [("profiles/a", "OPENSSH PRIVATE KEY"), ("profiles/b", "PRIVATE KEY")] {
            write(dir.path(), name, &format!("-----BEGIN {kind}-----\nAAAA\n"));
        }
        let staged = staged(&dir, &output);
        assert_eq!(staged.left_out, ["profiles/a", "profiles/b"].map(PathBuf::from).into());
        assert!(staged.folder().join("profiles/cert").exists());
        assert!(!staged.folder().join("profiles/a").exists());
    }

    #[test]
    fn what_is_too_large_to_be_meant_is_refused() {
        let (dir, output) = workspace();
        fs::File::create(dir.path().join("debian.iso")).unwrap().set_len(LARGEST + 1).unwrap();
        let error = stage(dir.path(), &output).unwrap_err().to_string();
        assert!(error.contains("512 MiB") && error.contains("`debian.iso`"), "{error}");
    }

    #[test]
    fn a_folder_that_is_no_flake_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(stage(dir.path(), dir.path()).is_err());
    }
}
