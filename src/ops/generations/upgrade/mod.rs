//! `upgrade`: the next generation is built, put into the pool beside the running one, tried, and kept or rolled back.
//!
//! The steps that are left follow from what libvirt knows: which generation is defined, which one runs, and how each came up. So
//! the same command finishes an interrupted upgrade. Until the domain is defined on the new generation nothing has changed;
//! from then on the old one stays in the record, to roll back to.

mod ahead;
mod nothing;
mod plan;
mod run;

pub use ahead::build_ahead;
pub use run::{Outcome, UpgradeRequest, Upgraded, upgrade};
