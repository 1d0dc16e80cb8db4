//! Deleting a machine's files.

use std::fs;
use std::path::Path;

use super::Workspace;
use super::workspace::file_names;
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::model::MachineName;

/// Deletes `machines/NAME/` with all its contents and returns whether there was anything.
///
/// The folder is renamed first, so that an interrupted deletion leaves no half machine; run again, this finishes the work.
pub fn remove(workspace: &Workspace, name: &MachineName) -> Result<bool> {
    let (machines, folder) = (workspace.machines_dir(), workspace.machine_dir(name));
    let cannot = || Failure::user(format!("cannot remove {}", folder.display()));
    if let Some(metadata) = file::existing(fs::symlink_metadata(&folder)).explain(cannot)? {
        if !metadata.is_dir() {
            return Err(Failure::user(format!("{} is not a folder, but a link or a file", folder.display()))
                .hint("look where it leads, and delete it by hand")
                .into());
        }
        // A unique name, for an earlier interrupted run may have left one.
        let aside = machines.join(format!(".{name}.removed.{}", uuid::Uuid::new_v4().simple()));
        fs::rename(&folder, &aside).explain(cannot)?;
        file::sync_folder(&machines)?;
    }
    sweep(&machines, name)
}

/// Deletes the folders that interrupted runs left beside a machine's folder, and returns whether there were any.
///
/// Half-made and half-deleted folders contain keys too.
pub(super) fn sweep(machines: &Path, name: &MachineName) -> Result<bool> {
    let (new, removed) = (format!(".{name}.new."), format!(".{name}.removed."));
    let mut any = false;
    for left in file_names(machines)?.iter().filter(|n| n.starts_with(&new) || n.starts_with(&removed)) {
        let left = machines.join(left);
        fs::remove_dir_all(&left).explain(|| Failure::user(format!("cannot remove {}", left.display())))?;
        any = true;
    }
    Ok(any)
}

/// Deletes a machine's folder if it holds nothing but unfinished files of killed nixvms.
pub fn remove_empty(workspace: &Workspace, name: &MachineName) -> Result<()> {
    let folder = workspace.machine_dir(name);
    let cannot = || Failure::user(format!("cannot look into {}", folder.display()));
    if fs::symlink_metadata(&folder).is_ok_and(|it| it.is_dir()) {
        file::sweep(&folder).explain(cannot)?;
        if file_names(&folder)?.is_empty() {
            fs::remove_dir(&folder).explain(cannot)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::workspace::tests::workspace;
    use crate::config::{NewMachine, create, exists};

    #[test]
    fn a_removed_machine_leaves_nothing_and_others_stay() {
        let (_dir, workspace) = workspace();
        let [web, prod]: [MachineName; 2] = ["web".parse().unwrap(), "web-prod".parse().unwrap()];
        create(&workspace, &NewMachine::named(web.clone())).unwrap();
        create(&workspace, &NewMachine::named(prod.clone())).unwrap();
        for left in [".web.new.x", ".web.removed.x", ".web-prod.new.x"] {
            fs::create_dir(workspace.machines_dir().join(left)).unwrap();
        }
        assert!(remove(&workspace, &web).unwrap());
        assert!(!exists(&workspace, &web) && exists(&workspace, &prod));
        let mut left = file_names(&workspace.machines_dir()).unwrap();
        left.sort();
        assert_eq!(left, [".web-prod.new.x", "web-prod"]);
        assert!(!remove(&workspace, &web).unwrap());
    }

    #[test]
    fn a_folder_that_holds_nothing_of_a_machine_is_in_nobodys_way() {
        let (_dir, workspace) = workspace();
        let web: MachineName = "web".parse().unwrap();
        let folder = workspace.machine_dir(&web);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(".nixvm-0123456789abcdef.tmp"), "secret").unwrap();
        fs::write(folder.join(".notes"), "").unwrap();
        remove_empty(&workspace, &web).unwrap();
        assert_eq!(file_names(&folder).unwrap(), [".notes"]);
        fs::remove_file(folder.join(".notes")).unwrap();
        remove_empty(&workspace, &web).unwrap();
        assert!(!exists(&workspace, &web));
        remove_empty(&workspace, &web).unwrap();
    }

    #[test]
    fn a_link_is_not_followed() {
        let (dir, workspace) = workspace();
        let elsewhere = dir.path().join("precious");
        fs::create_dir(&elsewhere).unwrap();
        fs::create_dir(workspace.machines_dir()).unwrap();
        std::os::unix::fs::symlink(&elsewhere, workspace.machines_dir().join("web")).unwrap();
        let error = remove(&workspace, &"web".parse().unwrap()).unwrap_err().to_string();
        assert!(error.ends_with("is not a folder, but a link or a file"));
        assert!(elsewhere.is_dir());
    }
}
