//! A machine as the user declared it.

use super::{
    AuthorizedKey, HostKey, Hostname, Libvirt, MacAddress, MachineId, MachineName, Network, PasswordHash,
    PoolName, Ports, ProfileName, ResolvConf, Size, Vcpus,
};

/// A machine as `machines/NAME/` declares it, one field for each file.
///
/// Its `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub name: MachineName,
    pub profile: ProfileName,
    pub hostname: Hostname,
    /// The guest's machine-id and the domain's UUID.
    pub machine_id: MachineId,
    pub mac: MacAddress,
    pub network: Network,
    pub host_key: HostKey,
    pub admin_keys: Vec<AuthorizedKey>,
    pub user_keys: Vec<AuthorizedKey>,
    pub tcp_ports: Ports,
    pub udp_ports: Ports,
    /// `None` locks root.
    pub root_password: Option<PasswordHash>,
    pub resolv_conf: ResolvConf,
    /// `None` where an older nixvm made the machine, and no command has recorded it since.
    pub pool: Option<PoolName>,
    /// Likewise.
    pub libvirt: Option<Libvirt>,
    pub memory: Size,
    pub vcpus: Vcpus,
    pub var_size: Size,
    /// Whether it starts with its host.
    pub autostart: bool,
    /// The machines that are to answer before this one starts.
    pub after: Vec<MachineName>,
    /// Whether commands that delete its data are refused.
    pub protect: bool,
    /// The user's own NixOS module for this machine, `extra.nix`.
    pub extra: Option<String>,
    /// Whether the image contains the password hash, which every user of the host can then read in the Nix store.
    pub self_contained: bool,
}
/// The files of a machine's identity; `create` makes those that are missing anew.
pub const IDENTITY: &str =
    "{machine-id,uuid,mac-address,ssh_host_ed25519_key,ssh_host_ed25519_key.pub,hostname}";

/// The hint for a machine whose folder is a copy of another's.
pub fn identity_of_its_own(name: &MachineName) -> String {
    format!(
        "a copied folder needs an identity of its own: `rm -f machines/{name}/{IDENTITY}`, and create it again; `nixvm clone` copies a machine with its data"
    )
}
