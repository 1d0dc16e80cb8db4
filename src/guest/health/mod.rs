//! Whether a guest came up as healthy as it was before.
//!
//! `look` observes the guest, and the pure function `judge` decides.

mod check;
mod checkup;
mod judge;
mod look;
mod report;
mod wait;
mod words;

pub use checkup::Checkup;
pub use look::{glance, observe};
pub use report::{Judged, cause, note_failing};
pub use wait::wait;
