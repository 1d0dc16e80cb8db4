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
mod create;
mod deploy;
mod destroy;
mod doctor;
mod list;
mod power;
mod reach;
mod restore_backup;
mod roots;
mod setup;
mod start;
mod status;
mod work;

pub use archives::{Contents, ListedBackup, VerifiedBackup, backups, verify_backup};
pub use backup::{BackedUp, backup};
pub use build::{BuiltMachine, BuiltProfile, build_declared, build_profile, profiles};
pub use create::{Created, create, declare, preflight};
pub use destroy::{Destroyed, destroy, purge};
pub use doctor::{Check, Health, doctor};
pub use list::{ListedMachine, declared, list};
pub use power::{Stopped, force_stop, reboot, stop};
pub use reach::{console, ssh, wait_for_ssh};
pub use restore_backup::{Restore, Restored, restore_backup};
pub use setup::{Setup, Watch};
pub use start::{Started, start};
pub use status::{Disk, Status, status};
