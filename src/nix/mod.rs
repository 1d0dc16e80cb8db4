//! Running Nix: its input, its log, its version.

pub mod beside;
mod build;
pub mod daemon;
mod flake;
pub mod image;
mod links;
mod listing;
mod lock;
mod log;
mod output;
pub mod reference;
mod version;

pub use build::{Flake, MISSING, add_to_store, build, develop, keep, lock, pinned};
pub use flake::{Staged, stage};
pub use lock::{Lock, Locked, Moved};
pub use log::{BuildProgress, Event};
pub use output::require_own_output;
pub use version::{Version, build_folder, features, isolation_off, require, version};
