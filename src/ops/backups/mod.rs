//! What leaves the pool: verbs that write an archive of a machine, verify it and make a machine of it; and images for others.

pub mod archives;
pub mod export;
pub mod restore;
pub mod take;
