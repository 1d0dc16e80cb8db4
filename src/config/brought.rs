//! The files of an archive that act on this host, or let somebody in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Serialize;

use super::Workspace;
use super::archived::{ArchivedFile, declared};
use super::health::HEALTH_CHECK;
use crate::error::Result;
use crate::model::secret::MACHINE_FILES;
use crate::model::{MachineName, Network, ResolvConf};

/// A file of an archive that acts, and that no machine of this workspace has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Brought {
    pub file: String,
    pub does: String,
}

/// Returns those of an archive's files that have an effect and are not, byte for byte, in the folder of one of `known`.
///
/// A value without an effect, such as an empty list of keys or the network `nat`, does not count.
pub fn brought(
    workspace: &Workspace,
    known: &[&MachineName],
    files: &[ArchivedFile],
) -> Result<Vec<Brought>> {
    let folders: Vec<_> = known.iter().map(|name| workspace.machine_dir(name)).collect();
    let new = files.iter().filter(|file| !folders.iter().any(|folder| is_there(folder, file)));
    let says = declared(files)?;
    let keys = |keys: Option<usize>, user: &str| {
        keys.filter(|keys| *keys > 0).map(|keys| format!("{keys} key(s) that log in as {user}"))
    };
    let does = |file: &ArchivedFile| match file.name.as_str() {
        "extra.nix" => Some("code that Nix evaluates, and builds from, on this host".to_owned()),
        HEALTH_CHECK => {
            Some("a program that runs on this host, with your rights, to judge the machine".to_owned())
        }
        "admin_authorized_keys" => keys(says.admin_keys.as_ref().map(Vec::len), "admin, who may use sudo"),
        "user_authorized_keys" => keys(says.user_keys.as_ref().map(Vec::len), "user"),
        "root_password_hash" => {
            says.root_password.clone().flatten().map(|_| "root's password on the console".to_owned())
        }
        "autostart" => {
            says.autostart.filter(|on| *on).map(|_| "starts a new machine together with this host".to_owned())
        }
        "self-contained" => {
            Some("puts the hash of root's password where every user of this host can read it".to_owned())
        }
        "network" => match &says.network {
            Some(Network::Bridge(interface)) => {
                Some(format!("puts the guest on the network behind {interface}"))
            }
            Some(Network::User) => Some("lets the guest reach services on this host's 127.0.0.1".to_owned()),
            Some(Network::Nat) | None => None,
        },
        "resolv.conf" => says
            .resolv_conf
            .as_ref()
            .filter(|servers| **servers != ResolvConf::default())
            .map(|_| "the name servers that the guest asks".to_owned()),
        name if MACHINE_FILES.contains(&name) => None,
        // Files that extra.nix names go to Nix with it.
        _ => says.extra.as_ref().map(|_| "goes to Nix with extra.nix, if that names it".to_owned()),
    };
    Ok(new.filter_map(|file| Some(Brought { file: file.name.clone(), does: does(file)? })).collect())
}

fn is_there(folder: &Path, file: &ArchivedFile) -> bool {
    let path = folder.join(&file.name);
    let executable = |metadata: fs::Metadata| metadata.permissions().mode() & 0o100 != 0;
    fs::metadata(&path).is_ok_and(|metadata| {
        metadata.is_file()
            && metadata.len() == file.bytes.len() as u64
            && (executable(metadata) || !file.executable)
    }) && fs::read(&path).is_ok_and(|bytes| bytes == file.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::workspace::tests::workspace;
    use crate::config::{NewMachine, create};

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me\n";

    #[test]
    fn only_what_acts_and_is_not_here_is_named() {
        let (_dir, workspace) = workspace();
        let web: MachineName = "web".parse().unwrap();
        create(&workspace, &NewMachine::named(web.clone())).unwrap();
        let folder = workspace.machine_dir(&web);
        let file = |name: &str, text: &str| ArchivedFile {
            name: name.into(),
            executable: name == HEALTH_CHECK,
            bytes: text.into(),
        };
        let names = |known: &[&MachineName], files: &[ArchivedFile]| -> Vec<String> {
            brought(&workspace, known, files).unwrap().into_iter().map(|brought| brought.file).collect()
        };
        let idle = [
            ("network", "nat\n"),
            ("user_authorized_keys", "# nobody\n"),
            ("root_password_hash", "\n"),
            ("resolv.conf", "nameserver 1.1.1.1\nnameserver 1.0.0.1\n"),
            ("memory", "9G\n"),
            ("autostart", "no\n"),
            ("notes", "mine\n"),
        ]
        .map(|(name, text)| file(name, text));
        assert_eq!(names(&[&web], &idle), [""; 0]);

        let acting = [
            ("admin_authorized_keys", KEY),
            ("autostart", "yes\n"),
            ("extra.nix", "{ imports = [ ./more.nix ]; }\n"),
            ("health-check", "#!/bin/sh\n"),
            ("more.nix", "{ }\n"),
            ("network", "user\n"),
            ("resolv.conf", "nameserver 192.0.2.1\n"),
            ("root_password_hash", "$6$salt$IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUILO5Ifz5iwMuTS4XMS130MTSuDDl3aCI6WouIL9AjRbLCelDCy.g.\n"),
            ("self-contained", ""),
            ("user_authorized_keys", KEY),
        ]
        .map(|(name, text)| file(name, text));
        assert_eq!(names(&[&web], &acting), acting.clone().map(|file| file.name));

        // A file that the machine has already is no news; one that differs by a byte, or is newly executable, is.
        for file in &acting {
            fs::write(folder.join(&file.name), &file.bytes).unwrap();
        }
        assert_eq!(names(&[&web], &acting), ["health-check"]);
        fs::set_permissions(folder.join(HEALTH_CHECK), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(names(&[&web], &acting), [""; 0]);
        assert_eq!(names(&["db".parse().as_ref().unwrap(), &web], &acting), [""; 0]);
        assert_eq!(names(&["db".parse().as_ref().unwrap()], &acting).len(), acting.len());
        fs::write(folder.join("more.nix"), "{ ; }").unwrap();
        assert_eq!(names(&[&web], &acting), ["more.nix"]);
    }
}
