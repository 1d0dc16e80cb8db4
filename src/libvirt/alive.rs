//! Keeping an unused connection alive, and noticing that its host is gone.
//!
//! libvirt's daemon sends its clients keepalive requests and drops those that do not answer for half a minute. The
//! library answers during a call or in the event loop, but not between calls, while Nix builds or the user thinks about
//! a question. So a thread makes a call now and then.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use virt::connect::Connect;
use virt::error::Error;

use super::events;

/// The time between two calls. The daemon asks after 5 seconds without traffic, 5 times at most (`keepalive_interval` and
/// `keepalive_count` in libvirtd.conf).
const INTERVAL: Duration = Duration::from_secs(4);

/// Seconds between keepalive requests to another host, and how many may stay unanswered. As libvirt counts one more, that
/// makes half a minute.
const ASK: (i32, u32) = (5, 5);

/// Has libvirt close the connection to another host that no longer answers: when a network fails, libvirt's ssh would wait for
/// as long as TCP does, or for ever.
///
/// Waiting calls, streams and all later calls fail then.
pub(super) fn expect_signs(connection: &Connect) -> Result<(), Error> {
    events::serve()?;
    connection.set_keep_alive(ASK.0, ASK.1)
}

/// Keeps a connection alive until it is dropped.
pub struct KeepAlive {
    _stop: Sender<()>,
}

impl KeepAlive {
    pub fn of(connection: &Connect) -> Self {
        let connection = connection.clone();
        let (stop, stopped) = channel();
        std::thread::spawn(move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                // The next call of a user of the connection reports if it is broken.
                let _ = connection.lib_version();
            }
        });
        KeepAlive { _stop: stop }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs qemu:///system and takes most of a minute"]
    fn a_connection_outlives_a_pause_that_ends_one_without_a_guard() {
        const ALONE: &str = "NIXVM_TRIAL_ALONE";
        const NAME: &str =
            "libvirt::alive::tests::a_connection_outlives_a_pause_that_ends_one_without_a_guard";
        // In a process of its own: another trial may have started libvirt's event loop in this one, which answers for all.
        if std::env::var_os(ALONE).is_none() {
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            let alone = alone.args(["--ignored", "--exact", NAME]).env(ALONE, "1").output().unwrap();
            let said = String::from_utf8_lossy(&alone.stdout);
            assert!(alone.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let connect = || crate::libvirt::connect("qemu:///system").unwrap();
        let (kept, lost) = (connect(), connect());
        let _guard = KeepAlive::of(&kept);
        std::thread::sleep(Duration::from_secs(45));
        assert!(lost.hostname().is_err(), "it needs no guard");
        kept.hostname().unwrap();
    }
}
