//! The archive of a machine, from which any host can restore it.
//!
//! `NAME-YYYYmmdd-HHMMSS.tar.zst` is a plain tar archive of a manifest, the machine's files and its data disk. The system is
//! not in it; it is built again from the files. docs/backups.md describes the layout, and how to restore by hand.
//!
//! An archive is written in one pass over the data ([`write()`]). Readers do not trust it: [`Archive::open`] reads only the
//! manifest, [`Archive::verify`] compares the rest with it, and [`Archive::members`] compares again while the members are
//! unpacked. This module does not know where the data comes from or goes to.

mod about;
mod checksum;
mod files;
mod frames;
mod front;
mod listed;
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

pub use about::{About, Manifest, Parent, State};
pub use checksum::Checksum;
pub use files::{MachineFile, machine_files};
pub use member::{FileName, Member, MemberKind};
pub use name::{ArchiveName, list};
pub use read::Archive;
pub use write::{ArchiveSource, Written, write};
