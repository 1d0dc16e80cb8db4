//! Access to Nix's daemon.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{Access, access};

/// Where the daemon listens (`NIX_DAEMON_SOCKET_PATH` in Nix's manual), and where a host's groups are.
const SOCKET: &str = "/nix/var/nix/daemon-socket/socket";
const GROUPS: &str = "/etc/group";

/// Returns the group to which Nix's daemon is restricted, where this user is not a member: Debian closes the folder of its
/// socket to everybody else.
pub fn closed_to_all_but() -> Option<String> {
    closed_by(Path::new(SOCKET), &fs::read_to_string(GROUPS).unwrap_or_default())
}

/// The hint for a user who is not in `group`.
pub fn joining(group: &str) -> String {
    format!("sudo usermod -aG {group} $USER, then log in anew")
}

fn closed_by(socket: &Path, groups: &str) -> Option<String> {
    UnixStream::connect(socket).err().filter(|error| error.kind() == ErrorKind::PermissionDenied)?;
    let door = match socket.parent() {
        Some(folder) if access(folder, Access::EXEC_OK).is_err() => folder,
        _ => socket,
    };
    let id = fs::metadata(door).ok()?.gid().to_string();
    let named = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    });
    Some(named.unwrap_or(id))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use rustix::process::{Uid, geteuid};
    use rustix::thread::set_thread_res_uid;

    use super::*;

    #[test]
    fn a_closed_folder_names_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("daemon-socket");
        fs::create_dir(&folder).unwrap();
        let socket = folder.join("socket");
        assert_eq!(closed_by(&socket, ""), None, "no daemon is no closed door");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(closed_by(&socket, ""), None);
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(dir.path(), 0o711);
        mode(&folder, 0o600);
        let id = fs::metadata(&folder).unwrap().gid();
        let groups = format!("adm:x:4294967294:\nnix-users:x:{id}:ada\n");
        let asked = || {
            if geteuid().is_root() {
                // Nothing is closed to root, and this thread alone is somebody else from here on.
                let nobody = Uid::from_raw(65534);
                set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            [closed_by(&socket, &groups), closed_by(&socket, "")]
        };
        let told = std::thread::scope(|scope| scope.spawn(asked).join().unwrap());
        assert_eq!(told, [Some("nix-users".into()), Some(id.to_string())]);
    }
}
