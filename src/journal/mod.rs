//! Who works on a machine, and what of it is done, in files beside the workspace's other output.
//!
//! `NAME.lock` is locked (flock(2)) by the process that works on the machine; the kernel releases it, however
//! that process ends. `NAME.json` says what the work is and which steps are done; it is there as long as the
//! work is not. A journal without a lock is therefore work that was interrupted.
//!
//! Nothing needs the journal to be right: what a machine is stands in its domain's definition alone. Losing it
//! leaves volumes in the pool that nothing refers to, and takes away the warning that they are there.

mod before;
mod command;
mod entry;
mod lock;
mod store;

pub use command::Command;
pub use entry::{Entry, Intent, Recorded};
pub use lock::{Holder, Lock};
pub use store::{Journal, WorkState, forget, read, state};
