//! The life of a machine.

pub mod clone;
pub mod create;
pub mod destroy;
pub mod network;
pub mod passwd;
pub mod recreate;
pub mod rename;
pub mod set;
pub mod start;
pub mod stop;
