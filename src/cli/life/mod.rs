//! Verbs that make, change, run and delete machines.

pub mod clone;
pub mod create;
pub mod destroy;
pub mod network_config;
pub mod passwd;
pub mod recreate;
pub mod rename;
pub mod set;
pub mod start;
pub mod stop;
