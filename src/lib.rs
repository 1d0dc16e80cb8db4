//! nixvm builds immutable NixOS virtual machines and runs them on libvirt/KVM.
//!
//! A machine is a folder of small text files. Data flows one way:
//!
//! ```text
//! machines/NAME/* --config--> Machine --render--> Nix module --nix--> thin disk + base image
//!                                 |                                        | storage
//!                                 +------ identity volume -----------------+--> pool --hypervisor--> guest
//! ```
//!
//! and so do imports; `tests/architecture.rs` keeps this true:
//!
//! ```text
//! main -> cli -> ops -> { nix, storage, hypervisor, backup, render, config, journal } -> { exec, libvirt, file }
//!      -> model -> interrupt -> error
//! ```
//!
//! The modules in braces never import each other: an operation in [`ops`] joins
//! them and passes values. Only [`cli`] reads the terminal, the environment and
//! the home folder, prints, asks and exits.

// They panic where standard output or error is full or closed, in the middle of an operation: `cli::output` does not.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

pub mod backup;
pub mod cli;
pub mod config;
pub mod error;
pub mod exec;
pub mod file;
pub mod hypervisor;
pub mod interrupt;
pub mod journal;
pub mod libvirt;
pub mod model;
pub mod nix;
pub mod ops;
pub mod render;
pub mod storage;
