//! A running guest: where it is reached, whether it is healthy, what it prints.

mod address;
pub mod arrival;
pub mod health;
mod identities;
mod jump;
pub mod key_files;
pub mod listeners;
pub mod login;
pub mod serial;
mod ssh_config;
pub mod trial;

pub use address::{Lack, Place, answering, place, places};
pub use jump::Jump;
pub use trial::Trial;
