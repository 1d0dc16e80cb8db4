//! Verbs that open a shell, in a guest or of the workspace, and the completions for one.

pub mod completions;
pub mod console;
pub mod shell;
pub mod ssh;
