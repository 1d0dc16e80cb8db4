//! libvirt's event loop, which one thread at a time may run.
//!
//! nixvm itself needs the loop only for a serial port, whose callbacks belong to the thread that opened it. But libvirt's
//! timers in the loop send the keepalive requests to another host, also while a call waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use virt::error::Error;
use virt::event::{event_add_timeout, event_run_default_impl};

/// How often the serving thread lets other threads take the loop.
const BREATH: Duration = Duration::from_millis(200);

static LOOP: Mutex<()> = Mutex::new(());
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// The right to run the loop, until this is dropped.
pub struct Turn {
    _loop: MutexGuard<'static, ()>,
}

impl Turn {
    /// Waits until no other thread runs the loop.
    pub fn take() -> Self {
        WAITING.fetch_add(1, Ordering::SeqCst);
        let turn = Turn { _loop: LOOP.lock().unwrap_or_else(PoisonError::into_inner) };
        WAITING.fetch_sub(1, Ordering::SeqCst);
        turn
    }
}

/// Starts a thread that runs the loop whenever no other thread does.
pub(super) fn serve() -> Result<(), Error> {
    static SERVED: OnceLock<Result<(), Error>> = OnceLock::new();
    let begin = || -> Result<(), Error> {
        // Without this timer the loop would return only at an event.
        let breath = i32::try_from(BREATH.as_millis()).unwrap_or(i32::MAX);
        event_add_timeout(breath, |_, _| {}, std::ptr::null_mut())?;
        std::thread::spawn(|| {
            loop {
                while WAITING.load(Ordering::SeqCst) > 0 {
                    std::thread::sleep(BREATH / 20);
                }
                let _turn = LOOP.lock().unwrap_or_else(PoisonError::into_inner);
                if event_run_default_impl().is_err() {
                    return;
                }
            }
        });
        Ok(())
    };
    SERVED.get_or_init(begin).clone()
}
