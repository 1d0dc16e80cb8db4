//! `clean`: deletes what nothing needs any more, but never a layer of data and never a backup.
//!
//! libvirt says what is needed: every domain, those of other workspaces too, and the backing file of every volume. Where one
//! of them cannot be read, nothing is deleted.

mod garbage;
mod run;
mod stale;

pub use garbage::Garbage;
pub use run::{clean, garbage};
