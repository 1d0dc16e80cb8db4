//! Archives of machines: verbs that write one, verify it and make a machine of it.

pub mod archives;
pub mod restore;
pub mod take;
