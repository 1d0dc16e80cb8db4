//! Giving a machine an identity of its own.

use super::{Workspace, declared, list};
use crate::error::{Failure, Result};
use crate::model::{HostKey, MacAddress, Machine, MachineId, MachineName, identity_of_its_own};

/// Returns a copy of this machine under another name and with an identity of its own: machine-id and UUID, MAC address, host
/// key and host name.
///
/// Two guests with one identity get one address, and a client that trusts one trusts the other.
pub fn with_new_identity(machine: &Machine, name: &MachineName) -> Result<Machine> {
    Ok(Machine {
        name: name.clone(),
        hostname: name.into(),
        machine_id: MachineId::generate(),
        mac: MacAddress::generate(),
        host_key: HostKey::generate(&format!("root@{name}"))?,
        ..machine.clone()
    })
}

/// Checks that no other machine of the workspace shares part of this one's identity, as after `cp -r machines/web machines/db`.
pub(super) fn check_own(workspace: &Workspace, machine: &Machine) -> Result<()> {
    for other in list(workspace)?.iter().filter(|other| **other != machine.name) {
        // Commands on that machine report its wrong files.
        let Ok(there) = declared(workspace, other) else { continue };
        let shared: Vec<&str> = [
            ("machine-id", there.machine_id.or(there.uuid) == Some(machine.machine_id)),
            ("MAC address", there.mac == Some(machine.mac)),
            ("ssh host key", there.host_key.as_ref() == Some(&machine.host_key)),
        ]
        .into_iter()
        .filter_map(|(what, same)| same.then_some(what))
        .collect();
        if !shared.is_empty() {
            let name = &machine.name;
            return Err(Failure::user(format!("`{name}` has the {} of `{other}`", shared.join(", the ")))
                .hint(identity_of_its_own(name))
                .into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::workspace::tests::workspace;
    use crate::config::{NewMachine, create};
    use crate::error::Report;
    use crate::model::{IDENTITY, sample};

    #[test]
    fn a_copied_folder_is_refused_until_it_is_somebody() {
        let (_dir, workspace) = workspace();
        let create = |name: &str| create(&workspace, &NewMachine::named(name.parse().unwrap()));
        create("web").unwrap();
        create("web").unwrap();
        let [web, db] = ["web", "db"].map(|name| workspace.machine_dir(&name.parse().unwrap()));
        std::fs::create_dir(&db).unwrap();
        std::fs::set_permissions(&db, std::fs::metadata(&web).unwrap().permissions()).unwrap();
        for file in std::fs::read_dir(&web).unwrap().map(std::result::Result::unwrap) {
            std::fs::copy(file.path(), db.join(file.file_name())).unwrap();
        }
        let refused = |shared: &str| {
            let report = Report::of(&create("db").unwrap_err());
            assert_eq!(report.error, format!("`db` has the {shared} of `web`"));
            assert!(report.hints[0].contains("rm -f machines/db/{machine-id,"), "{report:?}");
        };
        refused("machine-id, the MAC address, the ssh host key");
        // An earlier hint left two machines with one address and one key.
        for file in ["machine-id", "uuid"] {
            std::fs::remove_file(db.join(file)).unwrap();
        }
        refused("MAC address, the ssh host key");
        for file in IDENTITY.trim_matches(['{', '}']).split(',') {
            let _ = std::fs::remove_file(db.join(file));
        }
        let (web, db) = (create("web").unwrap(), create("db").unwrap());
        assert!(web.mac != db.mac && web.host_key != db.host_key && web.machine_id != db.machine_id);
        assert_eq!(db.hostname.to_string(), "db");
    }

    #[test]
    fn everything_but_the_identity_stays() {
        let old = sample::machine();
        let new = with_new_identity(&old, &"other".parse().unwrap()).unwrap();
        assert_eq!((new.name.as_str(), new.hostname.to_string().as_str()), ("other", "other"));
        assert!(new.machine_id != old.machine_id && new.mac != old.mac && new.host_key != old.host_key);
        let identity = |from: &Machine| (from.machine_id, from.mac, from.host_key.clone());
        let (machine_id, mac, host_key) = identity(&old);
        let (name, hostname) = (old.name.clone(), old.hostname.clone());
        assert_eq!(Machine { name, hostname, machine_id, mac, host_key, ..new }, old);
    }
}
