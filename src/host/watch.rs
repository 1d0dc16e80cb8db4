//! How an operation reports its progress.

use crate::error::Result;
use crate::interrupt;
use crate::model::Progress;
use crate::nix::Event;

pub trait Watch {
    fn step(&self, text: &str);
    /// The last step is over, with this result.
    fn done(&self, text: &str);
    /// A warning: nothing failed.
    fn note(&self, text: &str);
    fn nix(&self, event: &Event);
    /// A transfer has moved `done` of `total` bytes.
    fn bytes(&self, done: u64, total: u64);
}

/// Returns the callback of a transfer, which shows its progress and ends it at ^C.
pub fn moved(watch: &dyn Watch) -> impl FnMut(Progress) -> Result<()> {
    move |moved: Progress| {
        watch.bytes(moved.done, moved.total);
        interrupt::check()
    }
}
