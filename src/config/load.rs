//! From files to machines.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Workspace;
use super::declared::{Declared, PASSWORD, PRIVATE_KEY};
use super::workspace::file_names;
use crate::error::{Failure, Result};
use crate::file;
use crate::model::suggest::did_you_mean;
use crate::model::{Machine, MachineId, MachineName, lines};

pub fn load(workspace: &Workspace, name: &MachineName) -> Result<Machine> {
    if !exists(workspace, name) {
        return Err(unknown(workspace, name)?.into());
    }
    declared(workspace, name)?.complete(name, &label(name))
}

/// Returns what `machines/NAME/` says so far; nothing, if there is no such folder.
pub fn declared(workspace: &Workspace, name: &MachineName) -> Result<Declared> {
    let folder = workspace.machine_dir(name);
    check_private(&folder, &label(name))?;
    Declared::parse(&label(name), |file| file::read(&folder.join(file)))
}

/// Returns whether the workspace in the folder `root` declares a machine of that name and identity; `None` where it cannot
/// be read.
pub fn holds(root: &Path, name: &MachineName, id: MachineId) -> Option<bool> {
    let folder = root.join(label(name));
    let read = |file: &str| match fs::read_to_string(folder.join(file)) {
        Ok(text) => Some(text),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Some(String::new())
        }
        Err(_) => None,
    };
    let says = |text: &str| {
        let mut items = lines::items(text).map(|(_, item)| item.trim().to_lowercase().replace('-', ""));
        items.next().is_some_and(|item| item == id.to_string())
    };
    let (machine_id, uuid) = (read("machine-id")?, read("uuid")?);
    Some(says(&machine_id) || says(&uuid))
}

pub fn exists(workspace: &Workspace, name: &MachineName) -> bool {
    workspace.machine_dir(name).is_dir()
}

/// Returns the names of all machines, sorted: every folder in `machines/` whose name can be one.
pub fn list(workspace: &Workspace) -> Result<Vec<MachineName>> {
    let mut names: Vec<MachineName> = file_names(&workspace.machines_dir())?
        .iter()
        .filter_map(|name| name.parse().ok())
        .filter(|name| exists(workspace, name))
        .collect();
    names.sort();
    Ok(names)
}

pub(super) fn label(name: &MachineName) -> String {
    format!("machines/{name}")
}

pub(super) fn unknown(workspace: &Workspace, name: &MachineName) -> Result<Failure> {
    let names = list(workspace)?;
    let failure = Failure::user(format!("there is no machine `{name}`"));
    Ok(match did_you_mean(name.as_str(), names.iter().map(MachineName::as_str)) {
        Some(meant) => failure.hint(format!("did you mean `{meant}`? `nixvm list-machines` lists all")),
        None => {
            failure.hint(format!("`nixvm create {name}` makes it; `nixvm list-machines` lists all there are"))
        }
    })
}

/// Refuses secrets that other users can read, as ssh does: the user must learn that they were readable.
///
/// In a closed folder a file's own mode does not matter.
fn check_private(folder: &Path, label: &str) -> Result<()> {
    let open = |metadata: &Metadata| metadata.permissions().mode() & 0o077 != 0;
    if !fs::metadata(folder).is_ok_and(|folder| open(&folder)) {
        return Ok(());
    }
    let exposed = |name: &&&str| {
        fs::metadata(folder.join(name)).is_ok_and(|file| open(&file) && file.is_file() && file.len() > 0)
    };
    match [PRIVATE_KEY, PASSWORD].iter().find(exposed) {
        Some(name) => Err(Failure::user(format!("other users can read {label}/{name}"))
            .hint(format!(
                "close it with `chmod -R go= {label}`, and replace the secret if somebody may have read it"
            ))
            .into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::workspace::tests::workspace;
    use crate::config::{NewMachine, create};
    use crate::error::Report;
    use crate::model::sample::KEY;

    #[test]
    fn every_broken_file_is_named_with_its_line_and_what_is_allowed() {
        let (_dir, workspace) = workspace();
        let web: MachineName = "web".parse().unwrap();
        create(&workspace, &NewMachine::named(web.clone())).unwrap();
        fs::write(workspace.machine_dir(&web).join("after"), "# nobody\n").unwrap();
        for (file, broken, place, cause) in [
            ("profile", "../x\n", "profile, line 1, is wrong", "`../x` cannot be a profile's name"),
            ("hostname", "a.b\n", "hostname, line 1, is wrong", "`a.b` is not a hostname"),
            ("machine-id", "# id\nxyz", "machine-id, line 2, is wrong", "`xyz` is not a machine id"),
            ("mac-address", "01:00:5e:00:00:01", "mac-address, line 1, is wrong", "is multicast"),
            ("uuid", "no", "uuid, line 1, is wrong", "`no` is not a UUID"),
            ("network", "bridge\n", "network, line 1, is wrong", "does not say which bridge"),
            ("memory", "4Q\n", "memory, line 1, is wrong", "`4Q` is not a size of memory"),
            ("var_size", "-1\n", "var_size, line 1, is wrong", "`-1` is not a size of a disk"),
            ("autostart", "# x\non\n", "autostart, line 2, is wrong", "`on` is neither `yes` nor `no`"),
            ("after", "db\nDb\n", "after, line 2, is wrong", "`Db`"),
            ("protect", "true\n", "protect, line 1, is wrong", "`true` is neither `yes` nor `no`"),
            ("vcpus", "0\n", "vcpus, line 1, is wrong", "`0` is not a number of virtual CPUs"),
            ("tcp_ports", "22\n80-90\n", "tcp_ports, line 2, is wrong", "`80-90` is not a port"),
            ("udp_ports", "65536\n", "udp_ports, line 1, is wrong", "`65536` is not a port"),
            (
                "admin_authorized_keys",
                "hello\n",
                "admin_authorized_keys, line 1, is wrong",
                "there is no key",
            ),
            ("resolv.conf", "nameserver \0\n", "resolv.conf is wrong", "line 1 of resolv.conf"),
            (
                "root_password_hash",
                "hunter2\n",
                "root_password_hash, line 1, is wrong",
                "not one of crypt(5)",
            ),
            (
                "ssh_host_ed25519_key",
                "hunter2\n",
                "ssh_host_ed25519_key is wrong",
                "is no OpenSSH private key",
            ),
        ] {
            let path = workspace.machine_dir(&web).join(file);
            let good = fs::read(&path).unwrap();
            fs::write(&path, broken).unwrap();
            let report = Report::of(&load(&workspace, &web).unwrap_err());
            assert_eq!(report.error, format!("machines/web/{place}"));
            assert!(report.causes[0].contains(cause), "{report:?}");
            assert!(report.hints.len() == 1 && report.exit_code == 1, "{report:?}");
            assert!(!format!("{report:?}").contains("hunter2"));
            fs::write(&path, good).unwrap();
        }
        load(&workspace, &web).unwrap();
    }

    #[test]
    fn a_workspace_holds_a_machine_by_its_name_and_identity() {
        let (dir, workspace) = workspace();
        let web: MachineName = "web".parse().unwrap();
        let id = create(&workspace, &NewMachine::named(web.clone())).unwrap().machine_id;
        let held = |id| holds(dir.path(), &web, id);
        assert_eq!((held(id), held(MachineId::generate())), (Some(true), Some(false)));
        // By either file, with comments and in either case.
        fs::remove_file(workspace.machine_dir(&web).join("machine-id")).unwrap();
        fs::write(
            workspace.machine_dir(&web).join("uuid"),
            format!("# id\n{}\n", id.to_uuid().to_uppercase()),
        )
        .unwrap();
        assert_eq!(held(id), Some(true));
        assert_eq!(holds(&dir.path().join("moved"), &web, id), Some(false));
        assert_eq!(holds(dir.path(), &"db".parse().unwrap(), id), Some(false));
    }

    #[test]
    fn so_is_what_does_not_belong_together() {
        let (_dir, workspace) = workspace();
        let web: MachineName = "web".parse().unwrap();
        create(&workspace, &NewMachine::named(web.clone())).unwrap();
        for (file, text, error) in [
            ("hostname", "a\nb\n", "machines/web/hostname, line 2, is one value too many"),
            ("vcpus", "# nothing\n", "machines/web/vcpus is empty"),
            (
                "uuid",
                "0b5f0e4c-5a4b-4c7e-9f57-0d6f6f1f8a11\n",
                "machines/web/uuid and machines/web/machine-id differ",
            ),
            (
                "ssh_host_ed25519_key.pub",
                KEY,
                "machines/web/ssh_host_ed25519_key.pub is not the public half of machines/web/ssh_host_ed25519_key",
            ),
        ] {
            let path = workspace.machine_dir(&web).join(file);
            let good = fs::read(&path).unwrap();
            fs::write(&path, text).unwrap();
            assert_eq!(load(&workspace, &web).unwrap_err().to_string(), error);
            fs::write(&path, good).unwrap();
        }
        for file in ["profile", "mac-address", "ssh_host_ed25519_key"] {
            let path = workspace.machine_dir(&web).join(file);
            let good = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            let report = Report::of(&load(&workspace, &web).unwrap_err());
            assert!(report.error.starts_with(&format!("machines/web/{file}")), "{report:?}");
            assert_eq!(report.hints.len(), 1);
            fs::write(&path, good).unwrap();
        }
        // Either spelling of the id is enough.
        fs::remove_file(workspace.machine_dir(&web).join("machine-id")).unwrap();
        load(&workspace, &web).unwrap();
    }

    #[test]
    fn a_machine_that_is_not_there_is_met_with_the_nearest() {
        let (_dir, workspace) = workspace();
        create(&workspace, &NewMachine::named("webserver".parse().unwrap())).unwrap();
        let hint =
            |name: &str| Report::of(&load(&workspace, &name.parse().unwrap()).unwrap_err()).hints.concat();
        assert!(hint("webservr").starts_with("did you mean `webserver`?"));
        assert!(hint("db").starts_with("`nixvm create db` makes it"));
    }

    #[test]
    fn only_folders_with_a_machines_name_are_machines() {
        let (_dir, workspace) = workspace();
        assert!(list(&workspace).unwrap().is_empty());
        for folder in ["b", "a", ".a.new.x", "Upper"] {
            fs::create_dir_all(workspace.machines_dir().join(folder)).unwrap();
        }
        fs::write(workspace.machines_dir().join("file"), "").unwrap();
        let names: Vec<String> = list(&workspace).unwrap().into_iter().map(|name| name.to_string()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn open_secrets_are_refused_behind_an_open_door_only() {
        let (_dir, workspace) = workspace();
        let web: MachineName = "web".parse().unwrap();
        create(&workspace, &NewMachine::named(web.clone())).unwrap();
        let folder = workspace.machine_dir(&web);
        let chmod = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        chmod(&folder.join(PRIVATE_KEY), 0o644);
        load(&workspace, &web).unwrap();
        chmod(&folder, 0o755);
        let report = Report::of(&load(&workspace, &web).unwrap_err());
        assert_eq!(report.error, "other users can read machines/web/ssh_host_ed25519_key");
        assert!(report.hints[0].contains("chmod -R go= machines/web"));
        chmod(&folder.join(PRIVATE_KEY), 0o600);
        load(&workspace, &web).unwrap();
    }
}
