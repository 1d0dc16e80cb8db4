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
//! and so do imports; `tests/architecture` keeps this true, file by file:
//!
//! ```text
//! main
//! cli         the command line: asks and shows
//! ops         the verbs, none of which knows another
//! guest       what is asked of a running guest
//! work        one process at a time on a machine, in steps
//! build disks an image from files; layers of data in a pool
//! host        what a host gives: libvirt, a pool, a network
//! nix storage hypervisor backup render config journal
//! exec libvirt file
//! model
//! interrupt
//! error
//! ```
//!
//! A file imports from the floors below its own and from its own module, and never one that imports it back. The modules of
//! one floor do not know each other: an operation in [`ops`] joins them and passes values. Only [`cli`] reads the terminal,
//! the environment and the home folder, prints, asks and exits.

// They panic where standard output or error is full or closed, in the middle of an operation: `cli::output` does not.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

pub mod backup;
pub mod build;
pub mod cli;
pub mod config;
pub mod disks;
pub mod error;
pub mod exec;
pub mod file;
pub mod guest;
pub mod host;
pub mod hypervisor;
pub mod interrupt;
pub mod journal;
pub mod libvirt;
pub mod model;
pub mod nix;
pub mod ops;
pub mod render;
pub mod storage;
pub mod work;
