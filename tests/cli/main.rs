//! The program as a user runs it. The tests compare standard output, standard error and exit code.
//!
//! Every test has its own home and workspace and a cleared environment. libvirt is its test driver (`test:///default`), which
//! has one domain, `test`, that is not nixvm's. The end-to-end tests use guests.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod apply;
mod backups;
mod bad_input;
mod builds;
mod changes;
mod foreign;
mod generations;
mod hosts;
mod on_libvirt;
mod outputs;
mod places;
mod pty;
mod sandbox;
mod saved;
mod several;
mod signals;
mod verbs;
mod waits;
mod watches;
mod workspaces;
