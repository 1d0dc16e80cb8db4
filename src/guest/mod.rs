//! What is asked of a running guest: where it is, whether it is well, what it prints.

mod address;
pub mod health;
pub mod identities;
mod jump;
pub mod listeners;
pub mod login;
pub mod serial;
mod ssh_config;
pub mod trial;

pub use address::{Lack, Place, answering, place, places};
pub use jump::Jump;
pub use trial::Trial;
