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
//! one floor do not know each other: an operation in `ops` joins them and passes values. Only [`cli`] reads the terminal,
//! the environment and the home folder, prints, asks and exits.

// They panic where standard output or error is full or closed, in the middle of an operation: `cli::output` does not.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

// Public is what tests/ and benches/ use, and the verbs; in all other modules the compiler finds dead code.
pub mod backup;
pub(crate) mod build;
pub mod cli;
pub mod config;
pub(crate) mod disks;
pub mod error;
pub mod exec;
pub(crate) mod file;
pub(crate) mod guest;
pub(crate) mod host;
pub mod hypervisor;
pub(crate) mod interrupt;
pub(crate) mod journal;
pub(crate) mod libvirt;
pub mod model;
pub(crate) mod nix;
pub(crate) mod ops;
pub mod render;
pub(crate) mod storage;
pub(crate) mod work;
