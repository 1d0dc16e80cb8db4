//! The user's own health check of a machine.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Workspace;
use super::load::label;
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::model::MachineName;

/// A program of the user's in a machine's folder. It is run and never read, so neither image nor digest contains it.
pub(super) const HEALTH_CHECK: &str = "health-check";

/// Returns the program `machines/NAME/health-check`, `None` where there is none.
///
/// It runs with the caller's rights, so nobody else may have written it.
pub fn health_check(workspace: &Workspace, name: &MachineName) -> Result<Option<PathBuf>> {
    let folder = workspace.machine_dir(name);
    let path = folder.join(HEALTH_CHECK);
    let shown = format!("{}/{HEALTH_CHECK}", label(name));
    let cannot = || Failure::user(format!("cannot look at {shown}"));
    let Some(metadata) = file::existing(fs::symlink_metadata(&path)).explain(cannot)? else {
        return Ok(None);
    };
    if !metadata.is_file() {
        return Err(Failure::user(format!("{shown} is not a regular file"))
            .hint("put the program itself there: a link may lead to what another user can change")
            .into());
    }
    check_trusted(&label(name), &fs::metadata(&folder).explain(cannot)?)?;
    check_trusted(&shown, &metadata)?;
    if rustix::fs::access(&path, rustix::fs::Access::EXEC_OK).is_err() {
        return Err(Failure::user(format!("{shown} is not executable"))
            .hint(format!("make it so with `chmod 0700 {shown}`, or remove it"))
            .into());
    }
    Ok(Some(path))
}

fn check_trusted(shown: &str, metadata: &Metadata) -> Result<(), Failure> {
    let me = rustix::process::geteuid().as_raw();
    check_owner_and_mode(shown, metadata.uid(), metadata.mode(), me)
}

/// Refuses what anybody but the user `me` and root could have written.
fn check_owner_and_mode(shown: &str, owner: u32, mode: u32, me: u32) -> Result<(), Failure> {
    if owner != me && owner != 0 {
        return Err(Failure::user(format!("{shown} belongs to the user {owner}, and nixvm runs as {me}"))
            .hint(format!("check its contents, and make it yours with `chown {me} {shown}`")));
    }
    if mode & 0o022 != 0 {
        return Err(Failure::user(format!("other users can write to {shown}"))
            .hint(format!("check its contents, and close it with `chmod go= {shown}`")));
    }
    Ok(())
}

/// Closes the program to other users and leaves it executable.
///
/// One that others can write stays as it is: [`health_check`] refuses it, so that somebody looks at its contents first.
pub(super) fn close(folder: &Path) -> Result<()> {
    let path = folder.join(HEALTH_CHECK);
    let Ok(metadata) = fs::symlink_metadata(&path) else { return Ok(()) };
    let mode = metadata.permissions().mode();
    if !metadata.is_file() || mode & 0o022 != 0 || mode & 0o055 == 0 {
        return Ok(());
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o700))
        .explain(|| Failure::user(format!("cannot close {} to other users", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::workspace::tests::workspace;
    use crate::config::{NewMachine, create, load, save};
    use crate::error::Report;

    /// Returns a machine with a health check of mode 0700.
    fn machine() -> (tempfile::TempDir, Workspace, MachineName, PathBuf) {
        let (dir, workspace) = workspace();
        let web: MachineName = "web".parse().unwrap();
        create(&workspace, &NewMachine::named(web.clone())).unwrap();
        let path = workspace.machine_dir(&web).join(HEALTH_CHECK);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        chmod(&path, 0o700);
        (dir, workspace, web, path)
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn it_is_found_and_no_part_of_the_machine() {
        let (_dir, workspace, web, path) = machine();
        let with = load(&workspace, &web).unwrap();
        assert_eq!(health_check(&workspace, &web).unwrap(), Some(path.clone()));
        fs::remove_file(&path).unwrap();
        assert_eq!(load(&workspace, &web).unwrap(), with);
        assert_eq!(health_check(&workspace, &web).unwrap(), None);
        assert_eq!(health_check(&workspace, &"db".parse().unwrap()).unwrap(), None);
    }

    #[test]
    fn create_keeps_it_executable_and_closes_it() {
        let (_dir, workspace, web, path) = machine();
        for (before, after) in [(0o700, 0o700), (0o755, 0o700), (0o644, 0o600), (0o777, 0o777)] {
            chmod(&path, before);
            let machine = create(&workspace, &NewMachine::named(web.clone())).unwrap();
            save(&workspace, &machine).unwrap();
            assert_eq!((mode(&path), fs::read_to_string(&path).unwrap()), (after, "#!/bin/sh\n".to_owned()));
        }
    }

    #[test]
    fn what_cannot_be_run_or_may_be_another_users_is_refused() {
        let (dir, workspace, web, path) = machine();
        let report = || Report::of(&health_check(&workspace, &web).unwrap_err());
        chmod(&path, 0o600);
        assert_eq!(report().error, "machines/web/health-check is not executable");
        assert!(report().hints[0].contains("`chmod 0700 machines/web/health-check`"));
        for open in [0o720, 0o702] {
            chmod(&path, open);
            assert_eq!(report().error, "other users can write to machines/web/health-check");
            assert!(report().hints[0].contains("`chmod go= machines/web/health-check`"));
        }
        chmod(&path, 0o700);
        let folder = workspace.machine_dir(&web);
        chmod(&folder, 0o770);
        assert_eq!(report().error, "other users can write to machines/web");
        chmod(&folder, 0o700);

        let program = dir.path().join("program");
        fs::rename(&path, &program).unwrap();
        std::os::unix::fs::symlink(&program, &path).unwrap();
        assert_eq!(report().error, "machines/web/health-check is not a regular file");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(report().error, "machines/web/health-check is not a regular file");
        assert_eq!((report().hints.len(), report().exit_code), (1, 1));
    }

    #[test]
    fn only_the_caller_and_root_may_own_it() {
        for owner in [0, 1000] {
            check_owner_and_mode("x", owner, 0o100_755, 1000).unwrap();
        }
        let refused = check_owner_and_mode("x", 1001, 0o100_700, 1000).unwrap_err();
        let report = Report::of(&refused.into());
        assert_eq!(report.error, "x belongs to the user 1001, and nixvm runs as 1000");
        assert!(report.hints[0].contains("`chown 1000 x`"));
        assert!(check_owner_and_mode("x", 1000, 0o100_700, 0).is_err(), "root runs no one else's program");
    }
}
