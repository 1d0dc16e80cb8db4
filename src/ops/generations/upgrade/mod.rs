//! `upgrade`: the next generation, built and put into the pool beside the running one, tried, and kept or taken back.
//!
//! What is left to do follows from what libvirt knows: which generation is defined, which one runs, and what its record
//! says. So the same command finishes an upgrade that was interrupted. Until the domain is defined on the new
//! generation nothing has changed; from then on the old one stays in the record, to go back to.

mod nothing;
mod plan;
mod run;

pub use run::{Outcome, UpgradeRequest, Upgraded, upgrade};
