//! The values that nixvm works with: machines, domains and their parts.
//!
//! This module touches no file, process or network. A value of these types is valid: its constructor checks it, and the
//! [`Failure`](crate::error::Failure) quotes a refused value and says what is allowed.

pub mod closure;
pub mod domain;
pub mod lines;
pub mod observation;
pub mod order;
pub mod path;
pub mod plain;
pub mod qcow2;
pub mod quote;
pub mod record;
#[cfg(test)]
pub(crate) mod sample;
pub mod secret;
pub mod suggest;
pub mod units;
pub mod uri;
pub mod volume;
pub mod yes_no;

mod generation;
mod host;
mod hostname;
mod ipv4_range;
mod mac;
mod machine;
mod machine_id;
mod name;
mod network;
mod password;
mod place;
mod ports;
mod progress;
mod resolv_conf;
mod size;
mod ssh;
pub(crate) mod text;
mod timestamp;
mod vcpus;

pub use generation::Generation;
pub use host::{HOSTS, Hosts, NamedHost};
pub use hostname::Hostname;
pub use ipv4_range::Ipv4Range;
pub use mac::MacAddress;
pub use machine::{IDENTITY, Machine, identity_of_its_own};
pub use machine_id::MachineId;
pub use name::{HostLabel, MachineName, ProfileName, SnapshotName};
pub use network::Network;
pub use observation::{Observation, System};
pub use password::PasswordHash;
pub use place::{Connection, Libvirt, PoolName};
pub use plain::{plain, shortened};
pub use ports::{Port, Ports};
pub use progress::Progress;
pub use quote::quote;
pub use resolv_conf::ResolvConf;
pub use size::Size;
pub use ssh::{AuthorizedKey, HostKey, public_half};
pub use timestamp::Timestamp;
pub use vcpus::Vcpus;
