//! The program as it is typed: standard output, standard error and exit code, all three compared.
//!
//! Every test has a home and a workspace of its own and a cleared environment.
//! libvirt is its own test driver (`test:///default`), which has one domain,
//! `test`, that is not nixvm's. Guests are the end-to-end tests' business.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

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
mod sandbox;
mod saved;
mod signals;
mod verbs;
mod workspaces;
