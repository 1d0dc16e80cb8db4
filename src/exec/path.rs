//! Where programs are looked up.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Returns `path` (the value of `PATH`) followed by the folders in which Debian keeps `mkfs.ext4`, and which are not in an
/// ordinary user's `PATH`.
pub fn search_path(path: &OsStr) -> OsString {
    let mut folders = path.to_owned();
    for folder in ["/usr/local/sbin", "/usr/sbin", "/sbin"] {
        if !folders.is_empty() {
            folders.push(":");
        }
        folders.push(folder);
    }
    folders
}

/// Returns where `program` is on `path` (the value of `PATH`), if it can be executed.
pub fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    let executable = |p: &Path| p.is_file() && rustix::fs::access(p, rustix::fs::Access::EXEC_OK).is_ok();
    std::env::split_paths(path).map(|dir| dir.join(program)).find(|p| executable(p))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Command;

    #[test]
    fn an_ordinary_users_path_gets_the_system_folders_behind_it() {
        assert_eq!(search_path(OsStr::new("/usr/bin:/bin")), "/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin");
        assert_eq!(search_path(OsStr::new("")), "/usr/local/sbin:/usr/sbin:/sbin");
        let seen = Command::new("sh").args(["-c", "printf %s \"$PATH\""]).output().unwrap();
        assert!(String::from_utf8(seen).unwrap().ends_with(":/usr/sbin:/sbin"));
    }
}
