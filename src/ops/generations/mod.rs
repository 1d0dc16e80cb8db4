//! The builds of a machine.

pub mod build;
pub mod clean;
pub mod diff;
pub mod list;
pub mod rollback;
pub mod shell;
pub mod update;
pub mod upgrade;
