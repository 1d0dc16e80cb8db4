//! The one door for child processes.
//!
//! An argument vector is built as a value, so that tests compare it whole. A failure names the command as a person could
//! type it, how it ended, and the end of its output.

mod command;
mod path;
mod pipes;
mod run;

pub use command::{Command, quoted};
pub use path::{find, search_path};
