//! The computer that runs machines, seen through libvirt.
//!
//! From below: [`Hypervisor`] is the connection and finds domains ([`ObservedDomain`]). A domain that carries nixvm's metadata is
//! [`Seen`] and can be looked at. Only a machine of the workspace that nixvm was called in is [`Owned`], and everything that
//! changes a domain is a method of that.

mod accelerator;
mod address;
mod agent;
mod backup;
mod block;
mod confinement;
mod connection;
mod console;
mod copier;
mod define;
mod definition;
mod domain;
mod edits;
mod exchange;
mod files;
mod memory;
mod network;
mod owned;
mod power;
mod rename;
mod snapshot;
#[cfg(test)]
mod trials;

pub use accelerator::Probe;
pub use agent::Frozen;
pub use backup::{BackupRequest, CHECKPOINTS, is_own_checkpoint};
pub use block::{Merged, Paused};
pub use confinement::Confinement;
pub use connection::Hypervisor;
pub use definition::{BOOT, DATA, Definition, Disk, IDENTITY};
pub use domain::ObservedDomain;
pub use edits::DefinedValues;
pub use memory::LiveSize;
pub use network::VirtualNetwork;
pub use owned::{Owned, Seen};
pub use power::Ended;
