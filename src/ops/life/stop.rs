//! `stop` and `force-stop`. Other verbs shut machines down, too, so both are done on the floor below.

pub use crate::work::shutdown::{Stopped, force_stop, stop};
