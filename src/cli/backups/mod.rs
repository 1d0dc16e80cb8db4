//! Verbs on backups.

pub mod list;
pub mod restore;
pub mod take;
pub mod verify;
