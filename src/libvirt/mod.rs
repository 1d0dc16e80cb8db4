//! The one door to libvirt: the connection, and errors as people can use them.
//!
//! Failures are distinguished by libvirt's codes and by `errno`, never by the text
//! of a message, which libvirt translates. The text is only shown, as the cause.

mod alive;
mod events;
pub mod metadata;
mod sys;
#[cfg(test)]
mod trials;
pub mod xml;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use virt::connect::Connect;
use virt::error::{Error, ErrorDomain, ErrorNumber};

use crate::error::{Explain, Failure, Result};
use crate::interrupt;

use crate::model::uri::{is_local, is_session};
pub use alive::KeepAlive;
pub use events::Turn;
pub use sys::{
    Received, abort_job, backup_begin, block_capacity, block_commit, block_job, block_job_abort,
    checkpoint_delete, checkpoint_xml, checkpoints, domain_job, freeze, receive, security_model, send_hole,
    set_live_memory, thaw,
};

/// The answer of a call to libvirt.
pub type Answer<T> = std::result::Result<T, Error>;

/// How long another host may take to let this user in, who may have to type a password.
const PATIENCE: Duration = Duration::from_secs(120);

/// The hosts that this process logs in to at this moment, by their URIs.
static LOGINS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

const LOGIN_POLL: Duration = Duration::from_millis(20);

/// Returns a connection to the hypervisor at `uri`, a libvirt URI such as `qemu:///system`.
///
/// With another host, every call fails half a minute after that host's last answer.
pub fn connect(uri: &str) -> Result<Connect> {
    connect_within(uri, PATIENCE)
}

fn connect_within(uri: &str, limit: Duration) -> Result<Connect> {
    prepare()?;
    // `virt` passes strings to C and panics on a NUL.
    if uri.contains('\0') {
        return Err(Failure::usage("a libvirt URI cannot hold a NUL").into());
    }
    let cannot = || Failure::user(format!("cannot connect to libvirt at `{uri}`"));
    let opened = if is_local(uri) {
        Some(open(uri))
    } else {
        let began = Instant::now();
        // libvirt waits for its ssh without a limit, and ignores signals meanwhile.
        let attended = |_login| {
            let uri = uri.to_owned();
            interrupt::attended(limit.saturating_sub(began.elapsed()), move || open(&uri))
        };
        Login::take(uri, limit)?.map(attended).transpose()?.flatten()
    };
    let (opened, errno) = opened.ok_or_else(|| {
        cannot()
            .because(Failure::user(format!("its host does not answer within {} s", limit.as_secs())))
            .hint("see that the host is up, and that `ssh HOST virsh list` works with that user and host")
    })?;
    let connection =
        opened.map_err(|error| cannot().hint_if(connect_hint(uri, &error, errno)).because(words(&error)))?;
    if !is_local(uri) {
        alive::expect_signs(&connection).say(cannot)?;
    }
    Ok(connection)
}

/// The only login to a host at this moment, until it is dropped.
///
/// sshd refuses some logins while ten others are not let in yet (`MaxStartups` in sshd_config(5)), and two passwords cannot be
/// asked for on one terminal.
struct Login(String);

impl Login {
    /// Waits until this process logs in to no host by that URI; `None` after `limit`.
    fn take(uri: &str, limit: Duration) -> Result<Option<Self>> {
        interrupt::poll(limit, LOGIN_POLL, || {
            Ok(LOGINS
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(uri.to_owned())
                .then(|| Login(uri.to_owned())))
        })
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        LOGINS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Returns a new connection, and the system's error if it failed, which only the thread that opened it can ask for.
fn open(uri: &str) -> (Answer<Connect>, Option<io::ErrorKind>) {
    let opened = Connect::open(Some(uri));
    let errno = opened.as_ref().err().and_then(|_| sys::last_errno());
    (opened, errno)
}

/// Sets up the library once in a process.
///
/// Without this libvirt would print each error to standard error, and a connection supports
/// non-blocking streams only if there is an event loop when it is opened.
fn prepare() -> Result<()> {
    static READY: OnceLock<Answer<()>> = OnceLock::new();
    let ready = READY.get_or_init(|| {
        virt::error::clear_error_callback();
        virt::event::event_register_default_impl()
    });
    ready.clone().say(|| Failure::bug("cannot set up libvirt's event loop"))
}

/// Returns the error's code, if this version of the `virt` crate knows it.
pub fn code(error: &Error) -> Option<ErrorNumber> {
    error.code().known()
}

/// Returns libvirt's error, with a hint if the code alone tells what to do.
pub fn said(error: &Error) -> anyhow::Error {
    let failure = words(error);
    let broken = error.domain().is_known_and(|d| matches!(d, ErrorDomain::Rpc | ErrorDomain::Remote));
    match code(error) {
        Some(ErrorNumber::AccessDenied | ErrorNumber::OperationDenied) => failure.hint(
            "libvirt's access control refuses this; a member of the group `libvirt` may do it: `sudo usermod -aG libvirt $USER`",
        ),
        Some(ErrorNumber::SystemError | ErrorNumber::InternalError) if broken => {
            failure.hint("the connection to libvirt broke; run the command again")
        }
        _ => failure,
    }
    .into()
}

fn words(error: &Error) -> Failure {
    Failure::user(format!("libvirt: {}", error.message()))
}

fn connect_hint(uri: &str, error: &Error, errno: Option<io::ErrorKind>) -> Option<&'static str> {
    let (not_running, no_rights) = if is_session(uri) {
        (
            "libvirt starts a user's own daemon by itself; see that `libvirtd` is installed (`nixvm doctor`)",
            "this libvirt runs as you: HOME and XDG_RUNTIME_DIR must be your own; `nixvm --connect qemu:///session doctor` looks at them",
        )
    } else {
        (
            "start libvirt: `sudo systemctl start libvirtd`, or where no systemd runs `sudo virtlogd -d && sudo libvirtd -d`",
            "join the group `libvirt` and log in again: `sudo usermod -aG libvirt $USER`; or use your own libvirt: `--connect qemu:///session`",
        )
    };
    // If libvirt cannot ask polkit, as without a system bus, it reports an internal error.
    let unasked =
        error.domain().is_known_and(|domain| matches!(domain, ErrorDomain::Dbus | ErrorDomain::Polkit));
    match code(error) {
        _ if unasked && !is_session(uri) => Some(no_rights),
        Some(
            ErrorNumber::AuthFailed
            | ErrorNumber::AuthCancelled
            | ErrorNumber::AuthUnavailable
            | ErrorNumber::AccessDenied
            | ErrorNumber::OperationDenied,
        ) => Some(no_rights),
        Some(ErrorNumber::SystemError) if is_local(uri) => match errno? {
            io::ErrorKind::PermissionDenied => Some(no_rights),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Some(not_running),
            _ => None,
        },
        Some(
            ErrorNumber::NoConnect
            | ErrorNumber::InvalidArg
            | ErrorNumber::NoSupport
            | ErrorNumber::ConfigUnsupported,
        ) => Some(
            "a URI looks like `qemu:///system`, `qemu:///session` or `qemu+ssh://root@host/system`; libvirt's QEMU driver must be installed",
        ),
        _ if !is_local(uri) => Some("see that `ssh HOST virsh list` works with that user and host"),
        _ => None,
    }
}

/// Puts a [`Failure`] on top of what libvirt said.
pub trait Say<T> {
    /// Returns the value, or the failure that `say` makes, with libvirt's message as its cause.
    fn say(self, say: impl FnOnce() -> Failure) -> Result<T>;

    /// Returns the value, or libvirt's error as [`said`] makes it.
    fn said(self) -> Result<T>;

    /// Returns the value, or `None` if libvirt's error has that code.
    fn unless(self, answer: ErrorNumber) -> Answer<Option<T>>;
}

impl<T> Say<T> for Answer<T> {
    fn say(self, say: impl FnOnce() -> Failure) -> Result<T> {
        self.said().explain(say)
    }

    fn said(self) -> Result<T> {
        self.map_err(|error| said(&error))
    }

    fn unless(self, answer: ErrorNumber) -> Answer<Option<T>> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(error) if code(&error) == Some(answer) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    #[test]
    fn a_daemon_that_does_not_run_is_told_from_one_that_refuses() {
        let report = |uri: &str| Report::of(&connect(uri).unwrap_err());
        let missing = report("qemu+unix:///system?socket=/nonexistent/libvirt-sock");
        assert_eq!(missing.hints.len(), 1, "{missing:?}");
        assert!(missing.hints[0].starts_with("start libvirt:"), "{missing:?}");
        assert!(missing.causes[0].starts_with("libvirt: "), "{missing:?}");

        // The hint goes by what the system says, and root may open any socket: a folder refuses to be one for everyone.
        let refused = report("qemu+unix:///system?socket=/");
        assert_eq!(refused.hints, missing.hints, "{refused:?}");
    }

    #[test]
    fn only_the_named_answer_is_turned_into_none() {
        let connection = connect("test:///default").unwrap();
        let missing = || connection.lookup_domain_by_name("no-such-domain");
        assert!(missing().unless(ErrorNumber::NoDomain).unwrap().is_none());
        assert!(missing().unless(ErrorNumber::NoStoragePool).is_err());
    }

    #[test]
    fn one_host_is_logged_in_to_once_at_a_time() {
        let (short, long) = (Duration::from_millis(30), Duration::from_secs(20));
        let first = Login::take("qemu+ssh://one/system", short).unwrap().unwrap();
        assert!(Login::take("qemu+ssh://one/system", short).unwrap().is_none());
        assert!(Login::take("qemu+ssh://two/system", short).unwrap().is_some());
        std::thread::scope(|scope| {
            let second = scope.spawn(|| Login::take("qemu+ssh://one/system", long).unwrap().is_some());
            std::thread::sleep(short);
            drop(first);
            assert!(second.join().unwrap());
        });
    }
}
