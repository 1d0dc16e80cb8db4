//! The Nix that quickstart unpacks beside the libraries of a host whose own is too old. No package client updates it.

use std::path::Path;
use std::time::Duration;

use crate::exec::Command;

/// Where quickstart puts it (`NIX_HOME` in `scripts/nix.sh`).
pub const FOLDER: &str = "/opt/nixvm/nix";

/// Longest wait for the mirrors: the first time apt fetches lists of some 10 MB.
const LIMIT: Duration = Duration::from_secs(10);

/// The updates for the Nix in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Updates {
    /// The host's apt knows nothing newer, or cannot be asked.
    None,
    /// The folder does not say which versions it holds: an earlier quickstart made it, without security updates.
    Unknown,
    /// Newer packages, each `NAME=VERSION`.
    Newer(Vec<String>),
}

/// Looks for newer packages of the Nix in `folder`; `None` where there is none. Asks the mirrors of its own sources for at
/// most 10 seconds.
pub fn updates(folder: &Path) -> Option<Updates> {
    if !folder.join("bin/nix").exists() {
        return None;
    }
    if !folder.join("packages").exists() {
        return Some(Updates::Unknown);
    }
    let answer =
        Command::new(folder.join("nix-beside")).arg("newer").output_within(LIMIT).unwrap_or_default();
    let newer: Vec<String> = String::from_utf8_lossy(&answer).lines().map(str::to_owned).collect();
    Some(if newer.is_empty() { Updates::None } else { Updates::Newer(newer) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn newer_packages_are_what_its_own_script_names() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
        };
        assert_eq!(updates(dir.path()), None);
        write("bin/nix", "");
        assert_eq!(updates(dir.path()), Some(Updates::Unknown));
        write("packages", "libssl3t64=3.5.1-1\n");
        assert_eq!(updates(dir.path()), Some(Updates::None), "there is nobody to ask");
        write("nix-beside", "#!/bin/sh\n[ \"$*\" = newer ] && echo libssl3t64=3.5.2-1\n");
        assert_eq!(updates(dir.path()), Some(Updates::Newer(vec!["libssl3t64=3.5.2-1".into()])));
        write("nix-beside", "#!/bin/sh\necho 'E: no network' >&2; exit 100\n");
        assert_eq!(updates(dir.path()), Some(Updates::None));
    }
}
