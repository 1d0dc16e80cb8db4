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
mod jobs;
mod keys;
mod network;
mod output;
mod prompt;
mod protection;
mod rollout;
mod run;
mod screen;
mod selection;
mod shown;
mod table;
mod terminal;
mod turn;
mod wait;

mod backups;
mod generations;
mod life;
mod look;
mod reach;
mod snapshots;

pub(crate) use each::each;
pub(crate) use input::{Name, Shutdown, given, machine_name, optional, seconds, two_names, typed};
pub(crate) use jobs::{Cost, at_once, cores};
pub(crate) use network::network;
pub(crate) use prompt::Yes;
pub(crate) use protection::Unprotect;
pub(crate) use rollout::{Rolling, Verdict};
pub use run::run;
pub(crate) use screen::Screen;
pub(crate) use selection::{Machines, MachinesOrAll, Selection, Several};
pub(crate) use shown::Shown;
pub(crate) use table::{dash, state, table};
pub(crate) use terminal::{Terminal, error_text};
pub(crate) use turn::{Outcome, Subject, Turn, several, turns};
pub(crate) use wait::{SSH_LIMIT, SshTimeout, wait};
