//! What `virt` 0.5 has no safe wrapper for, and all the unsafe code there is.
#![allow(unsafe_code)]

use std::io;

use virt::error::Error;
use virt::stream::Stream;

/// Tells the stream's other side to skip `length` bytes, which then read as zeros.
///
/// # Errors
/// libvirt's, such as a full disk on the other side.
pub fn send_hole(stream: &Stream, length: u64) -> Result<(), Error> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    // SAFETY: the pointer is valid as long as `stream` is borrowed.
    match unsafe { virt::sys::virStreamSendHole(stream.as_ptr(), length, 0) } {
        0 => Ok(()),
        _ => Err(Error::last_error()),
    }
}

/// Returns the kind of the operating system's error behind this thread's last error of libvirt, if there is one.
pub(super) fn last_errno() -> Option<io::ErrorKind> {
    // SAFETY: the pointer is null or to this thread's own error, which stands until libvirt is called again.
    // `int1` is `errno` for errors that libvirt makes with virReportSystemError (src/util/virerror.c).
    let errno = unsafe { virt::sys::virGetLastError().as_ref() }?.int1;
    (errno > 0).then(|| io::Error::from_raw_os_error(errno).kind())
}
