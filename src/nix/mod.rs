//! Nix: what is given to it, what it says while it works, and what it is.

pub mod beside;
mod build;
pub mod daemon;
mod flake;
pub mod image;
mod listing;
mod lock;
mod log;
pub mod reference;
mod version;

pub use build::{Flake, MISSING, add_to_store, build, develop, evaluate, lock, pinned};
pub use flake::{Staged, require_own_output, stage};
pub use lock::{Lock, Locked, Moved};
pub use log::{Event, Progress};
pub use version::{Version, build_folder, features, isolation_off, require, version};
