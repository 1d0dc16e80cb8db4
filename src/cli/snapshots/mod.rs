//! Verbs on snapshots.

pub mod delete;
pub mod list;
pub mod restore;
pub mod take;
