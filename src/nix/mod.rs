//! Nix: what is given to it, what it says while it works, and what it is.

mod build;
mod flake;
mod log;
mod version;

pub use build::{Flake, MISSING, build, develop, evaluate};
pub use flake::stage;
pub use log::{Event, Progress};
pub use version::{Version, features, require, version};
