//! The builds of a machine: verbs that make one, compare, list and switch between them, and delete old ones.

pub mod build;
pub mod clean;
pub mod diff;
pub mod due;
pub mod list;
pub mod rollback;
pub mod update;
pub mod upgrade;
