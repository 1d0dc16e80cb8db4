//! The owner of the workspace's files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::process::geteuid;
use walkdir::WalkDir;

use crate::config::Workspace;
use crate::exec;

use super::check::Check;

const NAME: &str = "workspace";

/// Checks that the files which nixvm writes in the workspace belong to the workspace's owner.
pub fn check(workspace: &Workspace) -> Check {
    let Ok(owner) = fs::metadata(workspace.root()).map(|metadata| metadata.uid()) else {
        return Check::warning(NAME, "cannot be read", "make sure that you may enter its folder");
    };
    let folders = [workspace.machines_dir(), workspace.output_dir()];
    let strange = strange(&folders, owner);
    if let [first, ..] = &strange[..] {
        let (count, first) = (strange.len(), first.display());
        let finding = format!(
            "{count} file(s) in it do not belong to its owner (user {owner}) or cannot be read: {first}"
        );
        let folders = folders.iter().filter(|folder| folder.exists());
        let folders: Vec<_> = folders.map(|folder| exec::quoted(&folder.display().to_string())).collect();
        let fix = format!("sudo chown -R --no-dereference {owner}: {}", folders.join(" "));
        return Check::fault(NAME, finding, fix);
    }
    let (me, root) = (geteuid().as_raw(), workspace.root().display());
    if owner != me && me != 0 {
        let finding = format!("{root} belongs to user {owner}, and you are user {me}");
        return Check::warning(NAME, finding, "use a workspace of your own, or work as that user");
    }
    Check::good(NAME, format!("{root} belongs to its owner"))
}

/// Returns the files below these folders that are not the owner's. Symbolic links do not count: owning one grants nothing.
fn strange(folders: &[PathBuf], owner: u32) -> Vec<PathBuf> {
    let all = folders.iter().filter(|folder| folder.exists()).flat_map(WalkDir::new);
    all.filter_map(|entry| match entry {
        Ok(entry) if entry.path_is_symlink() => None,
        Ok(entry) => {
            let its = entry.metadata().map(|metadata| metadata.uid());
            (its.ok() != Some(owner)).then(|| entry.into_path())
        }
        Err(error) => error.path().map(Into::into),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::look::doctor::Health;

    #[test]
    fn what_sudo_left_is_found_with_the_command_that_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("flake.nix"), "{ }").unwrap();
        for folder in ["profiles", "machines/web", "output/work"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("output/work/web.lock"), "").unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("output/link")).unwrap();
        let workspace = Workspace::at(dir.path()).unwrap();
        assert_eq!(check(&workspace).health, Health::Good);
        if !geteuid().is_root() {
            return;
        }
        for entry in WalkDir::new(dir.path()) {
            std::os::unix::fs::lchown(entry.unwrap().path(), Some(4242), None).unwrap();
        }
        assert_eq!(check(&workspace).health, Health::Good, "root may work for somebody else");
        std::os::unix::fs::lchown(dir.path().join("output/work/web.lock"), Some(0), None).unwrap();
        let found = check(&workspace);
        assert_eq!(found.health, Health::Fault);
        assert!(
            found.finding.starts_with("1 file(s)") && found.finding.ends_with("work/web.lock"),
            "{found:?}"
        );
        assert!(found.fix.unwrap().starts_with("sudo chown -R --no-dereference 4242: /"));
    }
}
