//! Archives of machines.

pub mod archives;
pub mod restore;
pub mod take;
