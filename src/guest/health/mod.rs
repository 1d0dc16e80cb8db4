//! Whether a guest came up as well as it was before.
//!
//! How a guest is seen is apart from what follows from it: that is a pure function, [`judge()`].

mod check;
mod judge;
mod look;
mod wait;
mod words;

pub use look::{glance, observe};
pub use wait::{Judged, cause, limit, tell_failing, wait};
