//! Verbs on backups.

pub mod export;
pub mod list;
pub mod restore;
pub mod take;
pub mod verify;
