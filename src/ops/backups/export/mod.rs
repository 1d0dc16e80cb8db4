//! `export`: writes a machine's disks as images that boot without nixvm.
//!
//! The folder that it makes holds one image for each disk, none of which needs another file, and a script that boots them by
//! plain QEMU. It holds the machine's secrets, so only its owner can enter it.

mod boot;
mod plan;
mod run;

pub use run::export;
