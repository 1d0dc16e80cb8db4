//! Changing the files of an existing machine.

use std::fs;
use std::path::{Path, PathBuf};

use super::create::replace_what_differs;
use super::declared::Declared;
use super::health::{HEALTH_CHECK, health_check};
use super::load::{label, unknown};
use super::{Workspace, declared, exists};
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::model::{Machine, MachineName};

/// Changes the values in `machines/NAME/` and returns the machine.
///
/// The machine is checked as a whole before anything is written. Files whose value does not change keep their comments;
/// values that are not declared stay undeclared.
pub fn change(
    workspace: &Workspace,
    name: &MachineName,
    change: impl FnOnce(&mut Declared),
) -> Result<Machine> {
    if !exists(workspace, name) {
        return Err(unknown(workspace, name)?.into());
    }
    let there = declared(workspace, name)?;
    let mut wanted = there.clone();
    change(&mut wanted);
    let machine = wanted.clone().complete(name, &label(name))?;
    replace_what_differs(&workspace.machine_dir(name), &there, &wanted)?;
    Ok(machine)
}

/// Renames `machines/OLD/` to `machines/NEW/`, unless that has been done before.
pub fn rename(workspace: &Workspace, old: &MachineName, new: &MachineName) -> Result<()> {
    let (from, to) = (workspace.machine_dir(old), workspace.machine_dir(new));
    if !exists(workspace, old) && exists(workspace, new) {
        return Ok(());
    }
    // Renaming onto a folder works only while it is empty, so no machine is overwritten.
    fs::rename(&from, &to)
        .explain(|| Failure::user(format!("cannot rename {} to {}", from.display(), to.display())))?;
    file::sync_folder(&workspace.machines_dir())
}

/// Copies the health check of one machine to another that has none; returns whether it did.
pub fn copy_health_check(workspace: &Workspace, from: &MachineName, to: &MachineName) -> Result<bool> {
    let Some(source) = health_check(workspace, from)? else { return Ok(false) };
    let folder = workspace.machine_dir(to);
    let target = folder.join(HEALTH_CHECK);
    if target.exists() {
        return Ok(false);
    }
    copy(&source, &target, &folder)?;
    file::sync_folder(&folder)?;
    Ok(true)
}

/// Copies a file beside its place and renames it, so that a copy is whole or does not exist. The mode is copied too: it decides
/// whether others, and so Nix, may read the file.
fn copy(source: &Path, target: &Path, folder: &Path) -> Result<()> {
    let copied = || -> std::io::Result<()> {
        let beside = file::unfinished_in(folder, 0o600)?;
        fs::copy(source, beside.path())?;
        beside.as_file().sync_all()?;
        beside.persist(target)?;
        Ok(())
    };
    copied().explain(|| Failure::user(format!("cannot copy {} to {}", source.display(), target.display())))
}

/// Copies files from beside one machine's `extra.nix` to another's, unless they exist there; `paths` are relative to the folder.
pub fn copy_beside(
    workspace: &Workspace,
    from: &MachineName,
    to: &MachineName,
    paths: &[PathBuf],
) -> Result<()> {
    let (from, to) = (workspace.machine_dir(from), workspace.machine_dir(to));
    for path in paths {
        let (source, target) = (from.join(path), to.join(path));
        if !target.exists() {
            let folder = target.parent().unwrap_or(&to);
            file::create_private_folder(folder)?;
            copy(&source, &target, folder)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::workspace::tests::workspace;
    use crate::config::{NewMachine, create, load};

    fn names() -> [MachineName; 2] {
        ["web", "db"].map(|name| name.parse().unwrap())
    }

    #[test]
    fn a_change_writes_the_one_file_and_keeps_the_comments_of_the_others() {
        let (_dir, workspace) = workspace();
        let [web, _] = names();
        create(&workspace, &NewMachine::named(web.clone())).unwrap();
        let folder = workspace.machine_dir(&web);
        fs::write(folder.join("tcp_ports"), "# mine\n8080\n").unwrap();
        fs::remove_file(folder.join("memory")).unwrap();
        let hash = "$6$salt$hash".parse().unwrap();
        let machine = change(&workspace, &web, |files| files.root_password = Some(Some(hash))).unwrap();
        assert_eq!(load(&workspace, &web).unwrap(), machine);
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(read("root_password_hash"), "$6$salt$hash\n");
        assert_eq!(read("tcp_ports"), "# mine\n8080\n");
        assert!(!folder.join("memory").exists(), "what was not declared stays so");
        change(&workspace, &web, |files| files.root_password = Some(None)).unwrap();
        assert_eq!(read("root_password_hash"), "");
    }

    #[test]
    fn what_would_be_no_machine_is_not_written() {
        let (_dir, workspace) = workspace();
        let [web, db] = names();
        create(&workspace, &NewMachine::named(web.clone())).unwrap();
        let before = fs::read_to_string(workspace.machine_dir(&web).join("vcpus")).unwrap();
        let refused = change(&workspace, &web, |files| {
            files.vcpus = Some("7".parse().unwrap());
            files.mac = None;
        });
        assert!(refused.unwrap_err().to_string().ends_with("mac-address is missing"));
        assert_eq!(fs::read_to_string(workspace.machine_dir(&web).join("vcpus")).unwrap(), before);
        assert_eq!(change(&workspace, &db, |_| ()).unwrap_err().to_string(), "there is no machine `db`");
    }

    #[test]
    fn a_folder_is_renamed_once_and_onto_nobody() {
        let (_dir, workspace) = workspace();
        let [web, db] = names();
        let machine = create(&workspace, &NewMachine::named(web.clone())).unwrap();
        create(&workspace, &NewMachine::named(db.clone())).unwrap();
        assert!(rename(&workspace, &web, &db).is_err());
        assert_eq!(load(&workspace, &web).unwrap(), machine);
        let free = "free".parse().unwrap();
        for _ in 0..2 {
            rename(&workspace, &web, &free).unwrap();
            assert_eq!(load(&workspace, &free).unwrap().machine_id, machine.machine_id);
        }
        assert!(rename(&workspace, &web, &"other".parse().unwrap()).is_err());
    }

    #[test]
    fn a_copied_health_check_can_be_run_and_replaces_none() {
        let (_dir, workspace) = workspace();
        let [web, db] = names();
        for name in [&web, &db] {
            create(&workspace, &NewMachine::named(name.clone())).unwrap();
        }
        let copy = || copy_health_check(&workspace, &web, &db).unwrap();
        assert!(!copy());
        let source = workspace.machine_dir(&web).join("health-check");
        fs::write(&source, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(copy());
        let target = workspace.machine_dir(&db).join("health-check");
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(&target, "mine").unwrap();
        assert!(!copy());
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
    }
}
