//! A machine's data at an instant.

pub mod delete;
pub mod list;
pub mod restore;
pub mod take;
