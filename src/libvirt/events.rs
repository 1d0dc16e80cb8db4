//! libvirt's event loop, which one thread at a time may run.
//!
//! Nothing of nixvm's needs it but a serial port, whose callbacks belong to the thread that opened it. But libvirt
//! notices by it that another host is gone: its timers send the requests for a sign of life, also while a call waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use virt::error::Error;
use virt::event::{event_add_timeout, event_run_default_impl};

/// How often the thread that serves the loop lets others have it.
const BREATH: Duration = Duration::from_millis(200);

static LOOP: Mutex<()> = Mutex::new(());
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// The right to run the loop, until it is dropped.
pub struct Turn {
    _loop: MutexGuard<'static, ()>,
}

impl Turn {
    /// Returns the right to run the loop, once no other thread has it.
    pub fn take() -> Self {
        WAITING.fetch_add(1, Ordering::SeqCst);
        let turn = Turn { _loop: LOOP.lock().unwrap_or_else(PoisonError::into_inner) };
        WAITING.fetch_sub(1, Ordering::SeqCst);
        turn
    }
}

/// Has the loop run from now on whenever nobody else runs it, by a thread of its own.
pub(super) fn serve() -> Result<(), Error> {
    static SERVED: OnceLock<Result<(), Error>> = OnceLock::new();
    let begin = || -> Result<(), Error> {
        // Without it the loop would come back only when something happens.
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
