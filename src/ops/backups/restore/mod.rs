//! `restore-backup`: a machine from an archive, new or in place of the existing one.
//!
//! The archive and all that it adds to are verified before anything changes. Then the new system, if it has to be built, and the
//! new data are put beside the old while the machine runs, each archive as a layer on the one before. The definition of the
//! domain on that data is the one change that counts; the replaced layers are deleted after it.

mod plan;
mod run;
mod trust;

pub use run::{Restore, brings, restore_backup};
