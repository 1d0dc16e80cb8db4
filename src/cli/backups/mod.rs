//! Verbs on backups.

mod archives;
pub mod list;
pub mod restore;
pub mod take;
pub mod verify;
