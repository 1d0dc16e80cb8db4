//! The archive of a machine: a file from which it can be had again on any host.
//!
//! `NAME-YYYYmmdd-HHMMSS.tar.zst` is a plain tar archive of what makes a machine: a manifest, its files and its data
//! disk. The system is not in it; it is built again from the files. docs/backups.md has the layout, and the way to
//! restore by hand.
//!
//! An archive is written in one pass over the data ([`write()`]), and trusted by nobody: [`Archive::open`] reads the
//! manifest alone, [`Archive::verify`] compares the rest with it, and [`Archive::members`] compares once more while the
//! members go to where they belong. Nothing here knows where the data comes from or goes to.

mod checksum;
mod files;
mod frames;
mod front;
mod manifest;
mod member;
mod name;
mod part;
mod read;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod trials;
mod write;

pub use checksum::Checksum;
pub use files::{MachineFile, machine_files};
pub use manifest::{About, Manifest, Parent, State};
pub use member::{FileName, Member, Role};

pub use name::{ArchiveName, list};
pub use read::{Archive, Entry, Members};
pub use write::{Source, Written, write};
