//! Work on one machine, in steps: by one process at a time, written down, and settled when it was interrupted.

pub mod archives;
pub mod generations;
pub mod known;
mod machine;
pub mod merges;
mod plan;
pub mod power;
pub mod shutdown;
pub mod steps;
pub mod whole;

pub use machine::{Work, now};
pub use plan::Plan;
