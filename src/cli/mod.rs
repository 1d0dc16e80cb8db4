//! The command line: reads the terminal, the environment and the home folder, asks, prints and exits.
//!
//! A verb is one file: its arguments, its run, and how its result is shown. The verbs import the helpers in this
//! folder, `commands` imports the verbs, and nothing imports `commands` but `run`.

mod archives;
mod args;
mod commands;
mod each;
mod environment;
mod global;
mod input;
mod keys;
mod network;
mod output;
mod prompt;
mod protection;
mod run;
mod screen;
mod shown;
mod table;
mod terminal;
mod wait;

mod backups;
mod generations;
mod life;
mod look;
mod reach;
mod snapshots;

pub(crate) use each::{each, in_order};
pub(crate) use input::{Name, Names, Shutdown, given, machine_name, optional, seconds, two_names, typed};
pub(crate) use network::network;
pub(crate) use prompt::Yes;
pub(crate) use protection::Unprotect;
pub use run::run;
pub(crate) use screen::Screen;
pub(crate) use shown::Shown;
pub(crate) use table::{dash, state, table};
pub(crate) use terminal::{Terminal, error_text};
pub(crate) use wait::{SSH_LIMIT, SshTimeout, wait};
