//! What nixvm does: one verb, one file, and no verb imports another.
//!
//! An operation takes values, joins the modules below it and returns a value that can be shown to a person or printed as
//! JSON. It reports its progress through [`Watch`] and never asks: the CLI asks beforehand.

mod backups;
mod generations;
mod life;
mod look;
mod reach;
mod snapshots;

pub use crate::build::{OptionChange, SourceChange};
pub use crate::guest::arrival::Goal;
pub use crate::guest::key_files::public_keys;
pub use crate::guest::listeners::OpenPorts;
pub use crate::host::{Asked, Call, Session, Setup, Target, Watch, named, preflight};
pub use crate::storage::Format;
pub use crate::work::known::{Needs, is_made, require_all, require_snapshot, require_unprotected};
pub use backups::archives::{ListedBackup, VerifiedBackup, backups, verify_backup};
pub use backups::export::export;
pub use backups::restore::{Restore, brings, restore_backup};
pub use backups::take::{BackedUp, backup};
pub use generations::build::{build_declared, build_profile, profiles};
pub use generations::clean::{Garbage, clean, garbage};
#[cfg(test)]
pub use generations::diff::FileChange;
pub use generations::diff::{Changed, Diff, diff};
pub use generations::due::{Action, Difference, Due, due, undeclared};
pub use generations::list::{ListedGeneration, Runs, generations, keep_generations, runs};
pub use generations::rollback::rollback;
pub use generations::update::{Updated, update};
pub use generations::upgrade::{Outcome, UpgradeRequest, Upgraded, build_ahead, upgrade};
pub use life::clone::clone;
pub use life::create::{create, declare};
pub use life::destroy::{Destroyed, destroy, purge, require_something};
pub use life::network::network_config;
pub use life::passwd::passwd;
pub use life::reboot::reboot;
pub use life::recreate::{Anew, recreate};
pub use life::rename::rename;
pub use life::set::{Effect, Setting, Settings, Wanted, set};
pub use life::start::{start, start_order, wait_for_others};
pub use life::stop::{Stopped, force_stop, stop};
pub use look::doctor::{Check, Health, doctor};
pub use look::list::{Listed, ListedMachine, declared, list};
pub use look::logs::{Log, LogRequest, logs, serial_log};
pub use look::status::{Status, status};
pub use look::wait::{Waited, wait};
pub use reach::console::console;
pub use reach::shell::shell;
pub use reach::ssh::{ssh, wait_for_ssh};
pub use snapshots::delete::delete_snapshot;
pub use snapshots::list::{ListedSnapshot, Snapshots, snapshots};
pub use snapshots::restore::{RestoreOptions, restore_snapshot};
pub use snapshots::take::snapshot;
