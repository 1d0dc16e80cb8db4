//! `clean`: what nothing needs any more, marked first and then swept.
//!
//! Never a layer of data, never a backup. What is needed is asked of libvirt: of every domain, those of other workspaces
//! too, and of every volume what it lies on. Where one of them cannot be read, nothing is deleted.

mod garbage;
mod run;
mod stale;

pub use garbage::Garbage;
pub use run::{clean, garbage};
