//! From a machine's files to its image: the copy of the flake, its locked inputs, `nix build`, and what is kept of a build.

mod ahead;
mod base;
pub mod flake;
pub mod inputs;
pub mod kept;
mod machine;
mod sources;
mod wanted;

pub use ahead::{BuiltAhead, build_ahead};
pub use machine::{BuiltMachine, build_machine, build_machines, note_not_carried_out};
pub use sources::{OptionChange, SourceChange, Sources};
pub use wanted::Wanted;
