//! Ways in: verbs that lead a person into a guest, or into the workspace's development shell.

pub mod console;
pub mod shell;
pub mod ssh;
