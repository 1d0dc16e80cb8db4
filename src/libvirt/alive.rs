//! A connection that lives while nobody uses it, and dies with its host.
//!
//! libvirt's daemon asks its clients for a sign of life and drops those that give none for half a minute. The
//! library answers while it is in a call or in the event loop; between calls, while Nix builds or somebody thinks
//! about a question, nobody does. So a thread makes a call now and then.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use virt::connect::Connect;
use virt::error::Error;

use super::events;

/// How often: the daemon asks after 5 seconds without traffic and gives up after 5 more (`keepalive_interval` and
/// `keepalive_count` in libvirtd.conf).
const INTERVAL: Duration = Duration::from_secs(4);

/// How often another host is asked for a sign of life, in seconds, and how many may be missing. With one more, as libvirt
/// counts, that makes half a minute.
const ASK: (i32, u32) = (5, 5);

/// Has libvirt end the connection to another host that is gone: a network that is cut tells nobody, and libvirt's ssh would wait
/// for as long as TCP does, or for ever.
///
/// Calls that wait and streams fail then, and so does whatever is asked later.
pub(super) fn expect_signs(connection: &Connect) -> Result<(), Error> {
    events::serve()?;
    connection.set_keep_alive(ASK.0, ASK.1)
}

/// Keeps a connection alive until it is dropped.
pub struct KeepAlive {
    _stop: Sender<()>,
}

impl KeepAlive {
    /// Returns the guard of a connection.
    pub fn of(connection: &Connect) -> Self {
        let connection = connection.clone();
        let (stop, stopped) = channel();
        std::thread::spawn(move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                // A connection that is gone is found out by whoever uses it.
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
        // In a process of its own: another trial of this one may have had libvirt's event loop run, which answers for all.
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
