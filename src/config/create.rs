//! From machines to files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::declared::Declared;
use super::{Workspace, declared, exists, health, identity, load, remove};
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::model::{
    AuthorizedKey, HostKey, Hostname, Libvirt, MacAddress, Machine, MachineId, MachineName, Network,
    PoolName, Port, Ports, ProfileName, Size, Vcpus,
};

/// The request for a new machine.
///
/// A value here was given on purpose and overrides the folder's; `None` keeps the folder's value, or takes the default where
/// there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMachine {
    pub name: MachineName,
    /// Its profile; `core` by default.
    pub profile: Option<ProfileName>,
    pub pool: Option<PoolName>,
    pub libvirt: Option<Libvirt>,
    /// Its memory; 2 GiB by default.
    pub memory: Option<Size>,
    /// Its processors; 2 by default.
    pub vcpus: Option<Vcpus>,
    /// The size of its data disk; 20 GiB by default.
    pub var_size: Option<Size>,
    /// Whether it starts with its host; it does not by default.
    pub autostart: Option<bool>,
    /// Its network; `nat` by default.
    pub network: Option<Network>,
    /// The host name of its guest; the machine's name by default.
    pub hostname: Option<Hostname>,
    /// TCP ports to open beside those of its file, or beside 22, 80 and 443.
    pub tcp_ports: Vec<Port>,
    /// UDP ports to open beside those of its file.
    pub udp_ports: Vec<Port>,
    /// Who may log in as `admin`; nobody by default.
    pub admin_keys: Option<Vec<AuthorizedKey>>,
    /// Who may log in as `user`; nobody by default.
    pub user_keys: Option<Vec<AuthorizedKey>>,
}

#[cfg(test)]
impl NewMachine {
    pub fn named(name: MachineName) -> Self {
        NewMachine {
            name,
            profile: None,
            pool: None,
            libvirt: None,
            memory: None,
            vcpus: None,
            var_size: None,
            autostart: None,
            network: None,
            hostname: None,
            tcp_ports: Vec::new(),
            udp_ports: Vec::new(),
            admin_keys: None,
            user_keys: None,
        }
    }
}

/// Completes `machines/NAME/` and returns the machine; run again, it changes nothing.
///
/// Existing files are kept unless `new` changes their value. A new folder appears complete or not at all.
pub fn create(workspace: &Workspace, new: &NewMachine) -> Result<Machine> {
    let machine = plan(workspace, new)?;
    workspace.check_profile(&machine.profile)?;
    identity::check_own(workspace, &machine)?;
    save(workspace, &machine)?;
    Ok(machine)
}

/// Returns the machine that `new` and its folder describe together, with a new identity where it has none.
fn plan(workspace: &Workspace, new: &NewMachine) -> Result<Machine> {
    let mut files = declared(workspace, &new.name)?;
    files.profile = new.profile.clone().or(files.profile).or_else(|| Some(ProfileName::default()));
    files.pool = new.pool.clone().or(files.pool);
    files.libvirt = new.libvirt.clone().or(files.libvirt);
    files.memory = new.memory.or(files.memory);
    files.vcpus = new.vcpus.or(files.vcpus);
    files.var_size = new.var_size.or(files.var_size);
    files.autostart = new.autostart.or(files.autostart);
    files.network = new.network.clone().or(files.network);
    files.hostname = new.hostname.clone().or(files.hostname);
    if !new.tcp_ports.is_empty() {
        files.tcp_ports = Some(files.tcp_ports.unwrap_or_else(Ports::default_tcp).with(&new.tcp_ports));
    }
    if !new.udp_ports.is_empty() {
        files.udp_ports = Some(files.udp_ports.unwrap_or_default().with(&new.udp_ports));
    }
    files.admin_keys = new.admin_keys.clone().or(files.admin_keys);
    files.user_keys = new.user_keys.clone().or(files.user_keys);
    files.machine_id = files.machine_id.or(files.uuid).or_else(|| Some(MachineId::generate()));
    files.mac = files.mac.or_else(|| Some(MacAddress::generate()));
    if files.host_key.is_none() {
        files.host_key = Some(HostKey::generate(&format!("root@{}", new.name))?);
    }
    files.complete(&new.name, &load::label(&new.name))
}

/// Writes a machine into `machines/NAME/`: only the files whose value differs.
pub fn save(workspace: &Workspace, machine: &Machine) -> Result<()> {
    let folder = workspace.machine_dir(&machine.name);
    let wanted = Declared::from(machine);
    if exists(workspace, &machine.name) {
        let there = declared(workspace, &machine.name)?;
        close(&folder, &there)?;
        return replace_what_differs(&folder, &there, &wanted);
    }
    beside(workspace, &machine.name, |new| {
        let files = wanted.files();
        let present = files.iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
        present.into_iter().try_for_each(|(name, text)| file::create(&new.join(name), text))
    })
}

/// Makes `machines/NAME/` from what `fill` writes into the folder it is given: it appears complete or not at all.
pub(super) fn beside(
    workspace: &Workspace,
    name: &MachineName,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let (machines, folder) = (workspace.machines_dir(), workspace.machine_dir(name));
    file::create_private_folder(&machines)?;
    remove::sweep(&machines, name)?;
    let cannot = || Failure::user(format!("cannot make the folder {}", folder.display()));
    // Deleted again if anything below fails; its name with dots is never taken for a machine's.
    let beside = tempfile::Builder::new()
        .prefix(&format!(".{name}.new."))
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(&machines)
        .explain(cannot)?;
    file::give_to_owner(beside.path())?;
    fill(beside.path())?;
    file::sync_folder(beside.path())?;
    // Renaming onto a folder works only while it is empty, so no machine is overwritten.
    fs::rename(beside.path(), &folder).explain(cannot)?;
    drop(beside.keep());
    file::sync_folder(&machines)
}

pub(super) fn replace_what_differs(folder: &Path, there: &Declared, wanted: &Declared) -> Result<()> {
    for ((name, before), (_, after)) in there.files().into_iter().zip(wanted.files()) {
        match after {
            after if after == before => {}
            Some(text) => file::replace(&folder.join(name), &text)?,
            None => {
                file::remove(&folder.join(name))?;
            }
        }
    }
    Ok(())
}

/// Closes a folder that a person made, and the machine's files in it, to other users.
fn close(folder: &Path, there: &Declared) -> Result<()> {
    let close = |path: &Path, mode: u32| {
        let open = fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0);
        if !open {
            return Ok(());
        }
        fs::set_permissions(path, Permissions::from_mode(mode))
            .explain(|| Failure::user(format!("cannot close {} to other users", path.display())))
    };
    close(folder, 0o700)?;
    for (name, _) in there.files().iter().filter(|(_, text)| text.is_some()) {
        close(&folder.join(name), 0o600)?;
    }
    health::close(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::workspace::tests::workspace;
    use crate::config::{list, load};
    use crate::model::sample::KEY;

    fn web() -> MachineName {
        "web".parse().unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    /// Returns every file of the machine with its inode: an equal one was not written again.
    fn files(workspace: &Workspace) -> Vec<(std::ffi::OsString, u64)> {
        use std::os::unix::fs::DirEntryExt;
        let mut files: Vec<_> = fs::read_dir(workspace.machine_dir(&web()))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), entry.ino()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn a_new_machine_is_complete_private_and_its_own() {
        let (_dir, workspace) = workspace();
        let keys = vec![format!("{KEY} me").parse().unwrap()];
        let asked = NewMachine { admin_keys: Some(keys), ..NewMachine::named(web()) };
        let machine = create(&workspace, &asked).unwrap();
        assert_eq!(load(&workspace, &web()).unwrap(), machine);
        assert_eq!(machine.profile, ProfileName::default());
        let folder = workspace.machine_dir(&web());
        assert_eq!(mode(&folder), 0o700);
        for (name, _) in files(&workspace) {
            assert_eq!(mode(&folder.join(name)), 0o600);
        }
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(read("tcp_ports"), "22\n80\n443\n");
        assert_eq!(read("root_password_hash"), "");
        assert_eq!(
            (read("memory"), read("vcpus"), read("var_size")),
            ("2G\n".into(), "2\n".into(), "20G\n".into())
        );
        assert_eq!(read("uuid").replace('-', ""), read("machine-id"));
        assert!(read("ssh_host_ed25519_key.pub").ends_with(" root@web\n"));
        assert_eq!(list(&workspace).unwrap(), [web()]);
        assert_eq!(fs::read_dir(workspace.machines_dir()).unwrap().count(), 1);
    }

    #[test]
    fn a_second_create_changes_nothing() {
        let (_dir, workspace) = workspace();
        let first = create(&workspace, &NewMachine::named(web())).unwrap();
        let before = files(&workspace);
        assert_eq!(create(&workspace, &NewMachine::named(web())).unwrap(), first);
        assert_eq!(files(&workspace), before);
    }

    #[test]
    fn what_a_person_put_there_is_kept_and_closed() {
        let (_dir, workspace) = workspace();
        let folder = workspace.machine_dir(&web());
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.join("tcp_ports"), "# web\n8080\n").unwrap();
        fs::write(folder.join("memory"), "4096 \n").unwrap();
        fs::write(folder.join("notes"), "mine").unwrap();
        let asked = NewMachine { vcpus: Some("4".parse().unwrap()), ..NewMachine::named(web()) };
        let machine = create(&workspace, &asked).unwrap();
        assert_eq!(machine.tcp_ports.as_slice(), [8080]);
        assert_eq!((machine.memory.mib(), machine.vcpus.get()), (4096, 4));
        assert_eq!(fs::read_to_string(folder.join("tcp_ports")).unwrap(), "# web\n8080\n");
        assert_eq!(fs::read_to_string(folder.join("notes")).unwrap(), "mine");
        assert_eq!((mode(&folder), mode(&folder.join("memory"))), (0o700, 0o600));
    }

    #[test]
    fn what_is_asked_for_wins_over_what_is_there() {
        let (_dir, workspace) = workspace();
        let first = create(&workspace, &NewMachine::named(web())).unwrap();
        let asked = NewMachine { profile: Some("docker".parse().unwrap()), ..NewMachine::named(web()) };
        let second = create(&workspace, &asked).unwrap();
        assert_eq!(second, Machine { profile: "docker".parse().unwrap(), ..first });
        assert_eq!(load(&workspace, &web()).unwrap(), second);
    }

    #[test]
    fn save_removes_what_is_no_longer_wanted() {
        let (_dir, workspace) = workspace();
        let plain = create(&workspace, &NewMachine::named(web())).unwrap();
        let more = Machine { extra: Some("{ }".to_owned()), self_contained: true, ..plain.clone() };
        save(&workspace, &more).unwrap();
        assert_eq!(load(&workspace, &web()).unwrap(), more);
        save(&workspace, &plain).unwrap();
        assert_eq!(load(&workspace, &web()).unwrap(), plain);
    }

    #[test]
    fn a_refused_machine_leaves_no_trace() {
        let (_dir, workspace) = workspace();
        let asked = NewMachine { profile: Some("dokcer".parse().unwrap()), ..NewMachine::named(web()) };
        assert!(create(&workspace, &asked).is_err());
        assert!(!workspace.machines_dir().exists());
    }
}
