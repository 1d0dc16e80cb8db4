//! The progress of long work.

/// Progress of work on an image, in bytes; holes count as done when they are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    /// May grow while a guest writes.
    pub total: u64,
}
