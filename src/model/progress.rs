//! How far long work is.

/// How far work on an image is, in bytes; holes count as done when they are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; may grow while a guest writes.
    pub total: u64,
}
