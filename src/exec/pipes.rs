//! Reading what a child prints.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::interrupt;

/// How often a child is looked at while somebody waits for it.
pub(super) const POLL: Duration = Duration::from_millis(50);

/// Bytes of a line; a longer one comes in pieces.
const LINE: u64 = 1 << 20;

pub(super) fn pid(child: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child).ok()?)
}

/// Returns whether a child that is started now, after a request to stop or in deferred work, belongs to an orderly end.
pub(super) fn is_orderly_end() -> bool {
    interrupt::is_requested() || interrupt::is_deferred()
}

/// Does `work`, and sends the child SIGTERM when this process is asked to stop: only ^C at a terminal reaches both. A child that
/// belongs to an orderly end is left alone; the caller asked that before it started the child, for a request may come right after.
pub(super) fn ended_on_request<T>(child: u32, orderly_end: bool, work: impl FnOnce() -> T) -> T {
    let Some(child) = pid(child).filter(|_| !orderly_end) else { return work() };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if interrupt::is_requested() {
                    let _ = kill_process(child, Signal::TERM);
                    return;
                }
                std::thread::park_timeout(POLL);
            }
        });
        let value = work();
        done.store(true, Ordering::Relaxed);
        watching.thread().unpark();
        value
    })
}

/// Gives each line to `take` until that returns false; bytes that are not UTF-8 are replaced.
pub(super) fn each_line(pipe: impl Read, mut take: impl FnMut(&str) -> bool) -> io::Result<()> {
    let mut reader = BufReader::new(pipe);
    let mut bytes = Vec::new();
    while (&mut reader).take(LINE).read_until(b'\n', &mut bytes)? > 0 {
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        if !take(&String::from_utf8_lossy(line)) {
            break;
        }
        bytes.clear();
    }
    Ok(())
}

/// Returns the last `most` bytes of a file.
pub(super) fn end_of(file: &mut File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(file.metadata()?.len().saturating_sub(most)))?;
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the last lines that are not blank.
pub(super) fn tail(bytes: &[u8], lines: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let all: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].iter().map(ToString::to_string).collect()
}
