//! Another tool's traces on a machine's disks: its snapshots, its checkpoints, and its images.
//!
//! An external snapshot by virsh or virt-manager has the machine write to a new file on top of its layer of data. A command that
//! only looked at the layer would lose everything written since. So every command checks first; it changes nothing if it finds
//! such a file, and says how to merge it.

mod check;
mod merge_hint;
mod stray;

pub use check::{check, require_own_images};
pub use stray::images;
