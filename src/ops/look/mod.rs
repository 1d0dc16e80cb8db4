//! What there is to see.

pub mod doctor;
pub mod list;
pub mod logs;
pub mod reach;
pub mod status;
