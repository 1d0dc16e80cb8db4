//! Looking: verbs that show machines and the host, and change neither.

pub mod doctor;
pub mod list;
pub mod logs;
pub mod status;
pub mod wait;
