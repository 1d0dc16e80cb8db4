//! Verbs that only look, at machines and at the host.

pub mod doctor;
pub mod list;
pub mod logs;
pub mod status;
pub mod wait;
