//! `doctor`: what this host must have, whether it has it, and the command that fixes what it lacks.
//!
//! Every check answers on its own: a fault in one does not hide the others.

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
