//! What nixvm does: one verb, one file.
//!
//! An operation takes values, joins the modules below it and returns a value
//! that can be shown to a person or printed as JSON. It says what it is doing
//! through [`Watch`], and asks nothing: what has to be asked, the CLI asks
//! before.

mod accelerator;
mod archives;
mod backup;
mod build;
mod clean;
mod clone;
mod create;
mod delete_snapshot;
mod deploy;
mod destroy;
mod diff;
mod doctor;
mod files;
mod generations;
mod health;
mod jump;
mod kept;
mod layers;
mod list;
mod lock;
mod logs;
mod network;
mod nvram;
mod ownership;
mod passwd;
mod power;
mod reach;
mod recreate;
mod rename;
mod restore_backup;
mod restore_snapshot;
mod rollback;
mod roots;
mod serial;
mod set;
mod setup;
mod snapshot;
mod snapshots;
mod sources;
mod stale;
mod start;
mod status;
mod trial;
mod update;
mod upgrade;
mod work;

pub use archives::{Contents, ListedBackup, VerifiedBackup, backups, verify_backup};
pub use backup::{BackedUp, backup};
pub use build::{BuiltMachine, BuiltProfile, build_declared, build_profile, profiles};
pub use clean::{Garbage, clean, garbage};
pub use clone::{Cloned, clone};
pub use create::{Created, create, declare, preflight};
pub use delete_snapshot::{Deleted, delete_snapshot};
pub use destroy::{Destroyed, destroy, purge};
pub use diff::{Changed, Diff, FileChange, diff};
pub use doctor::{Check, Health, doctor};
pub use generations::{ListedGeneration, generations, keep_generations};
pub use list::{ListedMachine, declared, list};
pub use logs::{Log, LogRequest, logs, serial_log};
pub use network::{NetworkChange, network_config};
pub use passwd::{RootPassword, passwd};
pub use power::{Stopped, force_stop, reboot, stop};
pub use reach::{console, ssh, wait_for_ssh};
pub use recreate::{Anew, Recreated, recreate};
pub use rename::{Renamed, rename};
pub use restore_backup::{Restore, RestoredBackup, restore_backup};
pub use restore_snapshot::{RestoreOptions, Restored, restore_snapshot};
pub use rollback::{RolledBack, rollback};
pub use serial::plain;
pub use set::{Effect, Setting, Settings, Sizes, set};
pub use setup::{Setup, Watch};
pub use snapshot::{Taken, snapshot};
pub use snapshots::{ListedSnapshot, Snapshots, snapshots};
pub use sources::{OptionChange, SourceChange};
pub use start::{Started, start};
pub use status::{Disk, Status, status};
pub use update::{Updated, update};
pub use upgrade::{Outcome, UpgradeRequest, Upgraded, upgrade};
