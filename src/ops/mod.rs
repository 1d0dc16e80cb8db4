//! What nixvm does: one verb, one file, and no verb imports another.
//!
//! An operation takes values, joins the modules below it and returns a value that can be shown to a person or printed as
//! JSON. It reports its progress through [`Watch`] and never asks: the CLI asks beforehand.

mod backups;
mod generations;
mod life;
mod look;
mod snapshots;

pub use crate::build::{BuiltMachine, OptionChange, SourceChange};
pub use crate::guest::key_files::public_keys;
pub use crate::guest::listeners::OpenPorts;
pub use crate::host::{Asked, Call, Session, Setup, Watch, preflight};
pub use crate::work::known::{require_all, require_snapshot};
pub use crate::work::merges::Deleted;
pub use crate::work::power::Started;
pub use crate::work::shutdown::Stopped;
pub use backups::archives::{Contents, ListedBackup, VerifiedBackup, backups, verify_backup};
pub use backups::restore::{Brings, Restore, RestoredBackup, brings, restore_backup};
pub use backups::take::{BackedUp, backup};
pub use generations::build::{BuiltProfile, build_declared, build_profile, profiles};
pub use generations::clean::{Garbage, clean, garbage};
pub use generations::diff::{Changed, Diff, FileChange, diff};
pub use generations::list::{ListedGeneration, generations, keep_generations};
pub use generations::rollback::{RolledBack, rollback};
pub use generations::shell::shell;
pub use generations::update::{Updated, update};
pub use generations::upgrade::{Outcome, UpgradeRequest, Upgraded, upgrade};
pub use life::clone::{Cloned, clone};
pub use life::create::{Created, create, declare};
pub use life::destroy::{Destroyed, destroy, purge, require_something};
pub use life::network::{NetworkChange, network_config};
pub use life::passwd::{RootPassword, passwd};
pub use life::recreate::{Anew, Recreated, recreate};
pub use life::rename::{Renamed, rename};
pub use life::set::{Effect, Setting, Settings, Sizes, set};
pub use life::start::start;
pub use life::stop::{force_stop, reboot, stop};
pub use look::doctor::{Check, Health, doctor};
pub use look::list::{Listed, ListedMachine, Unreachable, declared, list};
pub use look::logs::{Log, LogRequest, logs, serial_log};
pub use look::reach::{console, ssh, wait_for_ssh};
pub use look::status::{Disk, Status, status};
pub use snapshots::delete::delete_snapshot;
pub use snapshots::list::{ListedSnapshot, Snapshots, snapshots};
pub use snapshots::restore::{RestoreOptions, Restored, restore_snapshot};
pub use snapshots::take::{TakenSnapshot, snapshot};
