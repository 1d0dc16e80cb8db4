//! Locks and journals of the commands that work on machines, in the workspace's `output/work`.
//!
//! `NAME.lock` is locked (flock(2)) by the process that works on the machine; the kernel releases it, however that process
//! ends. `NAME.json` contains the work and its finished steps, and is deleted at the end. So a journal without a lock means
//! that a command was interrupted.
//!
//! Nothing needs the journal to be right: a machine's state is in its domain's definition alone. A lost journal leaves
//! orphaned volumes in the pool, without the warning that they are there.

mod before;
mod command;
mod entry;
mod lock;
mod store;

pub use command::Command;
pub use entry::{Entry, Intent, Recorded};
pub use lock::{Holder, MachineLock};
pub use store::{Journal, WorkState, forget, read, state};
