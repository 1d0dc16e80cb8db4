//! Which workspace a machine belongs to: this one or another.
//!
//! A domain records the path of its workspace. The recorded path tells a workspace that was moved from one that was copied:
//! if the machine's folder, with its identity, is still there, the machine belongs to that workspace and this one is a copy.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::config::{self, Workspace};
use crate::error::{Failure, Result};
use crate::exec;
use crate::hypervisor::{Hypervisor, ObservedDomain};
use crate::journal::{Command, Holder, MachineLock};
use crate::model::record::Metadata;
use crate::model::{MachineId, MachineName, Timestamp};

/// Returns whether a machine belongs to this workspace; `id` is its domain's UUID.
pub fn is_ours(workspace: &Workspace, recorded: &Metadata, id: MachineId) -> bool {
    belongs(workspace.root(), Path::new(&recorded.workspace), &recorded.machine, id)
}

/// Returns the other workspace that a machine belongs to; `None` if it belongs to this one.
pub fn other_workspace(workspace: &Workspace, recorded: &Metadata, id: MachineId) -> Option<String> {
    (!is_ours(workspace, recorded, id)).then(|| recorded.workspace.clone())
}

/// Checks that a machine belongs to this workspace: its name may have been typed in the wrong folder.
pub fn require(workspace: &Workspace, recorded: &Metadata, id: MachineId) -> Result<()> {
    if is_ours(workspace, recorded, id) {
        return Ok(());
    }
    let (name, theirs) = (&recorded.machine, &recorded.workspace);
    let there = if is_gone(Path::new(theirs), name, id) {
        format!(
            "that workspace is gone: restore its folder, or put machines/{name} with the machine's own machine-id into another workspace, which then owns the machine"
        )
    } else {
        format!("name that workspace with `-C {}`", exec::quoted(theirs))
    };
    let hint = match config::holds(workspace.root(), name, id) {
        Some(true) => format!("{there}; this workspace has a copy of the machine's files"),
        Some(false) if config::exists(workspace, name) => format!(
            "{there}; this workspace's own `{name}` has no domain yet: rename the folder machines/{name} to give it another name"
        ),
        _ => there,
    };
    let message = format!("the machine `{name}` belongs to the workspace `{theirs}`; nothing was changed");
    Err(Failure::user(message).hint(hint).into())
}

/// Checks that the domain of that name, if it is nixvm's, belongs to this workspace.
pub fn require_own(workspace: &Workspace, host: &Hypervisor, name: &MachineName) -> Result<()> {
    match host.find(name)? {
        Some(ObservedDomain { id, metadata: Some(recorded), .. }) => require(workspace, &recorded, id),
        _ => Ok(()),
    }
}

fn belongs(here: &Path, there: &Path, machine: &MachineName, id: MachineId) -> bool {
    if there == here || is_same_folder(there, here) {
        return true;
    }
    config::holds(here, machine, id) == Some(true) && is_gone(there, machine, id)
}

/// Records this workspace's path in a machine's domain, if the workspace was moved.
pub fn record_move(workspace: &Workspace, host: &Hypervisor, name: &MachineName) -> Result<()> {
    let Some(found) = host.find(name)?.filter(|found| found.metadata.is_some()) else { return Ok(()) };
    // The command itself refuses a machine of another workspace.
    let Ok(mut domain) = host.own(name) else { return Ok(()) };
    let here = workspace.as_str();
    if domain.metadata().workspace != here && is_ours(workspace, domain.metadata(), found.id) {
        domain.record_workspace(here)?;
    }
    Ok(())
}

/// Does the same for a command that only reads, unless another command works on the machine: that one records the move.
pub fn try_record_move(workspace: &Workspace, host: &Hypervisor, name: &MachineName) {
    let holder = Holder {
        pid: std::process::id(),
        command: Command::new("status", [name]),
        since: Timestamp::now().unix(),
    };
    if let Ok(_lock) = MachineLock::take(&workspace.work_dir(), name, &holder, Duration::ZERO) {
        // A failure here is no failure of what the user asked for.
        let _ = record_move(workspace, host, name);
    }
}

/// Returns whether the workspace at `path` certainly no longer exists or no longer holds the machine.
fn is_gone(path: &Path, machine: &MachineName, id: MachineId) -> bool {
    match fs::metadata(path) {
        Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        Ok(_) => config::holds(path, machine, id) == Some(false),
    }
}

fn is_same_folder(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    identity(one).is_some_and(|found| Some(found) == identity(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_moved_workspace_has_its_machines_and_a_copy_has_not() {
        let dir = tempfile::tempdir().unwrap();
        let (name, id): (MachineName, _) = ("web".parse().unwrap(), MachineId::generate());
        let [old, new, copy] = ["old", "new", "copy"].map(|name| dir.path().join(name));
        let declare = |root: &Path, id: MachineId| {
            let folder = root.join("machines/web");
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("machine-id"), format!("{id}\n")).unwrap();
        };
        let ours = |here: &Path| belongs(here, &old, &name, id);
        declare(&old, id);
        declare(&copy, id);
        assert!(ours(&old) && !ours(&copy));
        // The old path leads here, by a link or a mount: it is one workspace.
        symlink(&old, dir.path().join("link")).unwrap();
        assert!(belongs(&old, &dir.path().join("link"), &name, id));

        fs::remove_dir_all(&copy).unwrap();
        fs::rename(&old, &new).unwrap();
        assert!(ours(&new));
        // Another workspace took the place, and has another machine of the name.
        declare(&old, MachineId::generate());
        assert!(ours(&new));
        fs::remove_dir_all(&old).unwrap();
        fs::write(&old, "a file").unwrap();
        assert!(ours(&new));
        // No machine becomes this workspace's by its name alone.
        declare(&new, MachineId::generate());
        assert!(!ours(&new));
    }

    #[test]
    fn what_cannot_be_looked_into_keeps_its_machines() {
        let dir = tempfile::tempdir().unwrap();
        let (name, id): (MachineName, _) = ("web".parse().unwrap(), MachineId::generate());
        let (old, new) = (dir.path().join("closed/old"), dir.path().join("new"));
        for root in [&old, &new] {
            fs::create_dir_all(root.join("machines/web")).unwrap();
        }
        fs::write(new.join("machines/web/machine-id"), id.to_string()).unwrap();
        fs::create_dir(old.join("machines/web/machine-id")).unwrap();
        assert!(!belongs(&new, &old, &name, id), "what is no file was taken for no machine");
        fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        assert!(!belongs(&new, &old, &name, id));
        fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    }
}
