//! A machine as the user declared it.

use super::{
    AuthorizedKey, Connection, HostKey, Hostname, MacAddress, MachineId, MachineName, Network, PasswordHash,
    PoolName, Ports, ProfileName, ResolvConf, Size, Vcpus,
};

/// A machine as `machines/NAME/` declares it, one field for each file.
///
/// Its `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The folder's name.
    pub name: MachineName,
    /// The profile it is made from.
    pub profile: ProfileName,
    /// What the guest calls itself.
    pub hostname: Hostname,
    /// The guest's machine-id and the domain's UUID.
    pub machine_id: MachineId,
    /// The network card's address.
    pub mac: MacAddress,
    /// How it reaches the network.
    pub network: Network,
    /// The guest's ssh host key.
    pub host_key: HostKey,
    /// Who may log in as `admin`.
    pub admin_keys: Vec<AuthorizedKey>,
    /// Who may log in as `user`.
    pub user_keys: Vec<AuthorizedKey>,
    /// TCP ports that its firewall lets in.
    pub tcp_ports: Ports,
    /// UDP ports that its firewall lets in.
    pub udp_ports: Ports,
    /// The hash of root's password; `None` locks root.
    pub root_password: Option<PasswordHash>,
    /// The guest's `/etc/resolv.conf`.
    pub resolv_conf: ResolvConf,
    /// The pool that its disks are in; `None` where an older nixvm made it, and nothing has written it down yet.
    pub pool: Option<PoolName>,
    /// The libvirt that has it; `None` likewise.
    pub connection: Option<Connection>,
    /// Its memory.
    pub memory: Size,
    /// Its processors.
    pub vcpus: Vcpus,
    /// The size of its data disk.
    pub var_size: Size,
    /// The user's own NixOS module for this machine, `extra.nix`.
    pub extra: Option<String>,
    /// Whether the image carries the password hash itself, for all on the host to read in the Nix store.
    pub self_contained: bool,
}
/// The files that a machine's identity is in; where they are missing, `create` makes another.
pub const IDENTITY: &str =
    "{machine-id,uuid,mac-address,ssh_host_ed25519_key,ssh_host_ed25519_key.pub,hostname}";

/// Returns what to do about a machine whose folder is a copy of another's.
pub fn identity_of_its_own(name: &MachineName) -> String {
    format!(
        "a copied folder needs an identity of its own: `rm -f machines/{name}/{IDENTITY}`, and create it again; `nixvm clone` copies a machine with its data"
    )
}
