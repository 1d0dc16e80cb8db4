//! Looking: verbs that show machines and the host, and lead into a guest, and change neither.

pub mod doctor;
pub mod list;
pub mod logs;
pub mod reach;
pub mod status;
