//! Requests to stop this process: ^C, SIGTERM, or a closed terminal (SIGHUP).
//!
//! A signal handler may only set a flag. Long loops check it where stopping leaves nothing half done, and return an error
//! like any other.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::error::{Failure, Result};

/// How often a wait for another thread checks for a request to stop.
const ATTENTION: Duration = Duration::from_millis(50);

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
static SIGNAL: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

thread_local! {
    /// How many orderly ends this thread is in: the end of one machine's work must not keep another's from hearing of the
    /// request.
    static DEFERRED: Cell<u32> = const { Cell::new(0) };
}

/// The flag that the CLI's signal handlers set.
pub fn flag() -> Arc<AtomicBool> {
    Arc::clone(&REQUESTED)
}

/// Where a signal handler stores the number of the last signal.
pub fn signal() -> Arc<AtomicUsize> {
    Arc::clone(&SIGNAL)
}

pub fn is_requested() -> bool {
    !is_deferred() && REQUESTED.load(Ordering::Relaxed)
}

/// Returns whether this thread is in [`deferred`] work.
pub fn is_deferred() -> bool {
    DEFERRED.get() > 0
}

/// Does work that belongs to an orderly end and returns its value. This thread ignores requests to stop meanwhile: the end of
/// a session sends SIGTERM and SIGHUP, which are one request. A repeated signal ends the process all the same.
pub fn deferred<T>(work: impl FnOnce() -> T) -> T {
    DEFERRED.set(DEFERRED.get() + 1);
    let done = work();
    DEFERRED.set(DEFERRED.get() - 1);
    done
}

/// Fails once somebody asked to stop.
pub fn check() -> Result<()> {
    if is_requested() { Err(Failure::interrupted().into()) } else { Ok(()) }
}

/// Calls `done` every `every` until it returns a value, and returns that; `None` after `limit`. A request to stop is an error.
pub fn poll<T>(
    limit: Duration,
    every: Duration,
    mut done: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let started = Instant::now();
    loop {
        check()?;
        if let Some(value) = done()? {
            return Ok(Some(value));
        }
        let left = limit.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        std::thread::sleep(every.min(left));
    }
}

/// Does work that cannot be stopped on a thread of its own and returns its value; `None` after `limit`.
///
/// After the limit, or a request to stop, the work continues and its value is dropped.
pub fn attended<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>> {
    let (told, hear) = channel();
    std::thread::spawn(move || told.send(work()));
    let started = Instant::now();
    loop {
        check()?;
        let left = limit.saturating_sub(started.elapsed());
        match hear.recv_timeout(left.min(ATTENTION)) {
            Ok(value) => return Ok(Some(value)),
            Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::bug("a thread died at its work").into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_does_not_end_is_left_to_itself() {
        assert_eq!(attended(Duration::from_secs(5), || 3).unwrap(), Some(3));
        let slow = || std::thread::sleep(Duration::from_secs(60));
        let began = Instant::now();
        assert_eq!(attended(Duration::from_millis(5), slow).unwrap(), None);
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn the_orderly_end_of_one_thread_is_that_of_no_other() {
        let elsewhere = deferred(|| {
            assert!(deferred(is_deferred) && is_deferred());
            std::thread::spawn(is_deferred).join().unwrap()
        });
        assert!(!elsewhere && !is_deferred());
    }

    #[test]
    fn polling_ends_with_the_value_or_at_the_limit() {
        let mut turns = 0;
        let third = poll(Duration::from_secs(5), Duration::from_millis(1), || {
            turns += 1;
            Ok((turns == 3).then_some(turns))
        });
        assert_eq!(third.unwrap(), Some(3));
        let never = poll(Duration::from_millis(5), Duration::from_millis(1), || Ok(None::<()>));
        assert_eq!(never.unwrap(), None);
    }
}
