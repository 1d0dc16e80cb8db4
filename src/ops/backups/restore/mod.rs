//! `restore-backup`: a machine from an archive, in place of the one that is there or where none is.
//!
//! The archive, and all that it adds to, is verified before anything is touched. Then the new is put beside the old, while
//! the machine runs: the system, where it has to be built, and the data, each archive as a layer on the one before it.
//! The definition of the domain on that data is the one change that counts; what it replaces is deleted after it.

mod plan;
mod run;
mod trust;

pub use run::{Restore, RestoredBackup, brings, restore_backup};
pub use trust::Brings;
