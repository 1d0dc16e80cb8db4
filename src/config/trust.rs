//! Whose workspace nixvm works in.
//!
//! A workspace decides what Nix builds, which health checks run on the host and what a guest is made of. So nixvm refuses
//! one that somebody else could have put there, such as `/tmp/flake.nix` above the user's own folder.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Explain, Failure, Result};
use crate::exec;

/// Mode bits: others may write to the folder; and, as in `/tmp`, nobody may delete another user's files in it.
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// The users, besides root, who may own a workspace: the one who runs nixvm, then the one who called sudo.
    pub users: Vec<u32>,
    /// Workspaces that are accepted whoever owns or can write them.
    pub workspaces: Vec<PathBuf>,
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Owner(u32),
    Writable,
}

impl Trust {
    /// Checks the folders from `start` up to the workspace `root`, both without symbolic links.
    pub(super) fn check(&self, root: &Path, start: &Path) -> Result<()> {
        if self.workspaces.iter().any(|allowed| allowed.canonicalize().is_ok_and(|allowed| allowed == root)) {
            return Ok(());
        }
        for folder in start.ancestors().take_while(|folder| folder.starts_with(root)) {
            let metadata = fs::metadata(folder)
                .explain(|| Failure::user(format!("cannot look at {}", folder.display())))?;
            if let Some(fault) = self.fault(&metadata, folder == root) {
                return Err(self.refused(root, folder, &fault).into());
            }
        }
        Ok(())
    }

    fn fault(&self, metadata: &Metadata, is_root: bool) -> Option<Fault> {
        let (owner, mode) = (metadata.uid(), metadata.mode());
        // In a folder like /tmp, other users cannot have put the folders above it there.
        let open = mode & OTHERS_WRITE != 0 && (is_root || mode & STICKY == 0);
        match owner {
            _ if open => Some(Fault::Writable),
            0 => None,
            owner if self.users.contains(&owner) => None,
            owner => Some(Fault::Owner(owner)),
        }
    }

    fn refused(&self, root: &Path, folder: &Path, fault: &Fault) -> Failure {
        let is_root = folder == root;
        let me = self.users.first().copied().unwrap_or_default();
        let (root, shown) = (exec::quoted(&root.to_string_lossy()), folder.display());
        let why = match fault {
            Fault::Owner(owner) => format!("belongs to user {owner}, and you are user {me}"),
            Fault::Writable => "can be written by every user of this host".into(),
        };
        if !is_root {
            return Failure::user(format!("{shown}, below the workspace {root}, {why}"))
                .hint(format!("work from a folder of your own, or name the workspace: `nixvm -C {root}`"));
        }
        Failure::user(format!("the workspace {root} {why}; nixvm would build and run what they put there"))
            .hint(format!(
                "go to a workspace of your own, or name it with `-C DIR`; if you trust whoever writes to this one, allow it with `--trust {root}` or NIXVM_TRUST={root}"
            ))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::error::Report;

    /// Returns a folder with the folders `a/b` in it, and its path without links.
    fn folders() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        (dir, root)
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn me() -> Trust {
        Trust { users: vec![rustix::process::geteuid().as_raw()], workspaces: Vec::new() }
    }

    fn refusal(trust: &Trust, root: &Path, start: &Path) -> Report {
        Report::of(&trust.check(root, start).unwrap_err())
    }

    #[test]
    fn what_others_may_write_is_refused_and_can_be_allowed() {
        let (_dir, root) = folders();
        let below = root.join("a/b");
        me().check(&root, &below).unwrap();
        // A group of people who work together is no stranger.
        chmod(&root, 0o775);
        me().check(&root, &below).unwrap();
        for mode in [0o777, 0o1777] {
            chmod(&root, mode);
            let refused = refusal(&me(), &root, &below);
            assert!(refused.error.contains("can be written by every user"), "{refused:?}");
            assert!(refused.hints[0].contains(&format!("--trust {}", root.display())), "{refused:?}");
            let allowed = |workspaces| Trust { workspaces, ..me() };
            allowed(vec![root.join("a/..")]).check(&root, &below).unwrap();
            for other in
                [vec![root.join("a")], vec![root.join("gone")], vec![root.parent().unwrap().to_owned()]]
            {
                assert!(allowed(other).check(&root, &below).is_err());
            }
        }
    }

    #[test]
    fn a_folder_on_the_way_up_counts_too() {
        let (_dir, root) = folders();
        chmod(&root.join("a"), 0o777);
        let refused = refusal(&me(), &root, &root.join("a/b"));
        assert!(refused.error.contains("/a, below the workspace"), "{refused:?}");
        assert!(refused.hints[0].contains(&format!("nixvm -C {}", root.display())), "{refused:?}");
        me().check(&root, &root).unwrap();
        chmod(&root.join("a"), 0o1777);
        me().check(&root, &root.join("a/b")).unwrap();
    }

    #[test]
    fn only_roots_and_ones_own_are_taken() {
        let (_dir, root) = folders();
        let metadata = |user| {
            if rustix::process::geteuid().is_root() {
                std::os::unix::fs::chown(&root, Some(user), None).unwrap();
            }
            fs::metadata(&root).unwrap()
        };
        let trust = |users: &[u32]| Trust { users: users.to_vec(), workspaces: Vec::new() };
        let owner = metadata(4242).uid();
        assert_eq!(trust(&[owner + 1]).fault(&metadata(4242), true), Some(Fault::Owner(owner)));
        assert_eq!(trust(&[0, owner]).fault(&metadata(4242), true), None, "as under sudo");
        if rustix::process::geteuid().is_root() {
            assert_eq!(trust(&[4242]).fault(&metadata(0), true), None);
        }
    }
}
