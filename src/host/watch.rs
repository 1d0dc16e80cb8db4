//! How an operation tells what it does.

use crate::error::Result;
use crate::interrupt;
use crate::model::Progress;
use crate::nix::Event;

/// Listens to what an operation does while it works.
pub trait Watch {
    /// A step begins.
    fn step(&self, text: &str);
    /// A step is over, with this result.
    fn done(&self, text: &str);
    /// Something the user should know, though nothing failed.
    fn note(&self, text: &str);
    /// Nix said something.
    fn nix(&self, event: &Event);
    /// A transfer has moved `done` of `total` bytes.
    fn bytes(&self, done: u64, total: u64);
}
/// Returns what an upload tells while it works: it shows how far it is, and ends at ^C.
pub fn moved(watch: &dyn Watch) -> impl FnMut(Progress) -> Result<()> {
    move |moved: Progress| {
        watch.bytes(moved.done, moved.total);
        interrupt::check()
    }
}
