//! libvirt's network `default`, and the addresses of this host that it must keep clear of.

mod default;
mod free;
mod routes;

pub use default::{DEFAULT, Fault, check_bridge, ensure_network, faults, note_faults};
pub use routes::uplink;
