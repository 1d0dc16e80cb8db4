//! Verbs that build systems, and choose which of them a machine runs.

pub mod apply;
pub mod build;
pub mod clean;
pub mod diff;
pub mod list;
pub mod rollback;
pub mod update;
pub mod upgrade;
