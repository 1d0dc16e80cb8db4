//! The life of a machine: verbs that make, change, start, stop and delete it.

pub mod clone;
pub mod create;
pub mod destroy;
pub mod network;
pub mod passwd;
pub mod reboot;
pub mod recreate;
pub mod rename;
pub mod set;
pub mod start;
pub mod stop;
