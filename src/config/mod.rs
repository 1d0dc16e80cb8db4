//! The workspace on disk, and the folders of machines in it.
//!
//! A machine is a folder `machines/NAME/`, closed to other users, with one file for each value; docs/machine-files.md lists
//! them. People edit these files, so each one is checked at every read, and messages name file and line. Blank lines and lines
//! that begin with `#` are skipped, except in `resolv.conf` and `extra.nix`. Files that nixvm does not know are left alone.

mod after;
mod archived;
mod brought;
mod change;
mod create;
mod declared;
mod files;
mod flags;
mod health;
mod hosts;
mod identity;
mod load;
mod place;
mod remove;
mod trust;
mod workspace;

pub use after::{after, start_order, waiting_for};
pub use archived::{ArchivedFile, from_archive, unpack, unpack_public};
pub use brought::{Brought, brought};
pub use change::{change, copy_beside, copy_health_check, rename};
pub use create::{NewMachine, create, save};
pub use flags::{autostart, is_protected, record_autostart};
pub use health::health_check;
pub use hosts::hosts;
pub use identity::with_new_identity;
pub use load::{declared, exists, holds, list, load};
pub use place::{Place, place, record_place};
pub use remove::{remove, remove_empty};
pub use trust::Trust;
pub use workspace::Workspace;
