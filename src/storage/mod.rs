//! libvirt's storage pool and the volumes in it.
//!
//! Everything goes through libvirt, so that a pool on another host is the same as one here.

pub mod data;
pub mod identity;

mod blank;
mod chain;
mod condemned;
mod copy;
mod flat;
mod look;
mod pool;
mod pour;
mod put;
mod reader;
mod sparse;
#[cfg(test)]
mod trials;
mod users;
mod xml;

pub use chain::Link;
pub use flat::Format;
pub use pool::Pool;
pub use pour::Incoming;
pub use put::Stored;
pub use reader::VolumeReader;
pub use sparse::Piece;
pub use users::pool_with;
