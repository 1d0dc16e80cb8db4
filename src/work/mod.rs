//! Work on one machine: by one process at a time, in steps that are written down, cleaned up where it was interrupted.

pub mod archives;
pub mod autostart;
mod begin;
mod carry;
pub mod generations;
pub mod known;
mod machine;
pub mod merges;
mod plan;
pub mod power;
mod recovery;
pub mod shutdown;
pub mod steps;
pub mod whole;

pub use machine::Work;
pub use plan::Plan;
