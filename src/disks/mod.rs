//! A machine's disks: its layers of data, the firmware's variables, which volumes it needs, and what other tools changed.

mod data;
pub mod files;
pub mod foreign;
pub mod layers;
pub mod nvram;
pub mod roots;
pub mod saved;

pub use data::{data_capacity, free_stem, grow_data, grow_data_now, highest_layer, layer_of, next_layer};
