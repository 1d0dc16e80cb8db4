//! A machine's data at an instant: verbs that keep such points inside the disk's chain, and go back to them.

pub mod delete;
pub mod list;
pub mod restore;
pub mod take;
