//! The files `autostart` and `protect`, which are read alone: they count even if another file of the machine is wrong.

use super::files::Files;
use super::load::label;
use super::{Workspace, exists};
use crate::error::Result;
use crate::file;
use crate::model::{MachineName, yes_no};

/// Returns whether a machine is to start with its host; `None` where its files do not say.
pub fn autostart(workspace: &Workspace, name: &MachineName) -> Result<Option<bool>> {
    flag(workspace, name, "autostart")
}

/// Returns whether commands that delete a machine's data are refused.
pub fn is_protected(workspace: &Workspace, name: &MachineName) -> Result<bool> {
    Ok(flag(workspace, name, "protect")?.unwrap_or_default())
}

/// Writes down that a machine starts with its host, where its files do not say; does nothing for one without a folder, and
/// returns whether it wrote.
pub fn record_autostart(workspace: &Workspace, name: &MachineName) -> Result<bool> {
    if !exists(workspace, name) || autostart(workspace, name)?.is_some() {
        return Ok(false);
    }
    file::replace(&workspace.machine_dir(name).join("autostart"), format!("{}\n", yes_no::word(true)))?;
    Ok(true)
}

fn flag(workspace: &Workspace, name: &MachineName, file: &str) -> Result<Option<bool>> {
    let folder = workspace.machine_dir(name);
    let files = Files { label: &label(name), read: |file: &str| file::read(&folder.join(file)) };
    files.value(file, yes_no::parse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::workspace::tests::workspace;
    use crate::config::{NewMachine, create, load};

    #[test]
    fn what_libvirt_was_told_by_hand_is_written_down_once() {
        let (_dir, workspace) = workspace();
        let web: MachineName = "web".parse().unwrap();
        assert!(!record_autostart(&workspace, &web).unwrap());
        assert!(!workspace.machine_dir(&web).exists(), "a machine without files gets none");
        create(&workspace, &NewMachine::named(web.clone())).unwrap();
        assert_eq!(autostart(&workspace, &web).unwrap(), Some(false), "`create` says it");
        assert!(!record_autostart(&workspace, &web).unwrap(), "the file decides");
        std::fs::remove_file(workspace.machine_dir(&web).join("autostart")).unwrap();
        assert_eq!(autostart(&workspace, &web).unwrap(), None);
        assert!(record_autostart(&workspace, &web).unwrap());
        assert!(load(&workspace, &web).unwrap().autostart);
        // Known though another file is wrong.
        std::fs::write(workspace.machine_dir(&web).join("memory"), "lots").unwrap();
        assert_eq!(autostart(&workspace, &web).unwrap(), Some(true));
        assert!(!is_protected(&workspace, &web).unwrap());
        std::fs::write(workspace.machine_dir(&web).join("protect"), "# the shop\nyes\n").unwrap();
        assert!(is_protected(&workspace, &web).unwrap());
    }
}
