//! `doctor`: checks everything that nixvm needs of this host, and names the command that fixes what is missing.
//!
//! The checks are independent: a fault in one does not hide the others.

mod check;
mod firewall;
mod firmware;
mod network;
mod nix;
mod run;
mod security;
mod workspace;

pub use check::{Check, Health};
pub use run::doctor;
