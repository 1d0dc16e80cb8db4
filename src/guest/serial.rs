//! The output of a guest on its serial port: the only trace of a boot that fails early.

use crate::error::Result;
use crate::model::plain;
use crate::model::volume::{Role, VolumeStem};
use crate::storage::{Piece, Pool};

/// How a kernel reports a panic (`panic()` in Linux's kernel/panic.c).
const PANIC: &str = "Kernel panic - not syncing";

/// How the firmware (OVMF, AAVMF) reports what it boots.
const FIRMWARE: &str = "BdsDxe: starting Boot";

/// How the firmware's shell begins, which it starts if no disk boots.
const SHELL: &str = "UEFI Interactive Shell v";

/// How many bytes of a log are read, from its end: libvirt keeps 2 MiB, and without virtlogd everything that a guest prints.
const MOST: u64 = 256 << 10;

/// A boot as the serial log shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootLog {
    pub panic: Option<String>,
    pub boots: usize,
    /// Whether the firmware found nothing to boot from and started its shell.
    pub shell: bool,
}

/// Returns the present length of a machine's serial log in bytes; 0 if libvirt cannot tell at once.
pub fn length(pool: &Pool, stem: &VolumeStem) -> u64 {
    pool.length_now(&Role::SerialLog(None).of(stem)).unwrap_or(0)
}

/// Returns the output since the log had `mark` bytes, without terminal sequences; nothing if the log cannot be read.
pub fn since(pool: &Pool, stem: &VolumeStem, mark: u64) -> String {
    // A shorter log means that libvirt began a new file meanwhile.
    let mark = if length(pool, stem) < mark { 0 } else { mark };
    let new = end_of(pool, &Role::SerialLog(None).of(stem), mark, MOST).unwrap_or_default();
    plain(&String::from_utf8_lossy(&new.bytes))
}

pub fn parse(log: &str) -> BootLog {
    let panic = log.lines().find_map(|line| line.find(PANIC).map(|at| line[at..].trim().to_owned()));
    let boots = log.lines().filter(|line| line.contains(FIRMWARE)).count();
    BootLog { panic, boots, shell: log.contains(SHELL) }
}

pub fn tail(log: &str, lines: usize) -> String {
    let said: Vec<&str> = log.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    said[said.len().saturating_sub(lines)..].join("\n")
}

#[derive(Debug, Default)]
pub struct End {
    pub bytes: Vec<u8>,
    /// The position in the log behind the last byte.
    pub at: u64,
}

/// Returns the contents of a log's volume from the byte `from` on, and of these the last `most` bytes.
pub fn end_of(pool: &Pool, volume: &str, from: u64, most: u64) -> Result<End> {
    let now = pool.usage(volume)?.map_or(0, |log| log.capacity);
    let start = from.max(now.saturating_sub(most));
    let mut end = End { bytes: Vec::new(), at: start };
    pool.read_from(volume, start, &mut |piece| {
        if let Piece::Data(bytes) = piece {
            end.bytes.extend_from_slice(bytes);
            end.at += bytes.len() as u64;
        }
        keep_last(&mut end.bytes, most);
        Ok(())
    })?;
    Ok(end)
}

/// Keeps a bound on a log that grows while it is read. It is cut only when it is twice as long, because a cut moves the rest.
fn keep_last(bytes: &mut Vec<u8>, most: u64) {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if bytes.len() > most.saturating_mul(2) {
        bytes.drain(..bytes.len() - most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\x1b[2J\x1b[01;01HBdsDxe: starting Boot0001 \"UEFI\"\r\n\x1b[0;32m  OK  \x1b[0m ready\x07\r\n\r\n\
                       [    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n[    1.3] ---[ end ]---\r\n";

    #[test]
    fn a_log_is_shown_without_what_a_terminal_would_obey() {
        let log = plain(LOG);
        assert!(!log.chars().any(|c| c.is_control() && c != '\n'), "{log:?}");
        assert_eq!(log.lines().nth(1), Some("  OK   ready"));
        assert_eq!(tail(&log, 1), "[    1.3] ---[ end ]---");
        assert_eq!(tail(&log, 9).lines().count(), 4);
    }

    #[test]
    fn of_a_log_without_end_only_the_end_is_kept() {
        let mut kept = Vec::new();
        for part in 0..100u8 {
            kept.extend([part; 10]);
            keep_last(&mut kept, 50);
            assert!(kept.len() <= 100 && kept.ends_with(&[part; 10]));
        }
        assert!(kept.len() >= 50);
    }

    #[test]
    fn it_tells_of_panics_and_boots() {
        let told = parse(&plain(LOG));
        assert_eq!(told.panic.as_deref(), Some("Kernel panic - not syncing: VFS: Unable to mount root fs"));
        assert_eq!(told.boots, 1);
        assert_eq!(parse("all is well"), BootLog::default());
        let lost =
            "BdsDxe: failed to load Boot0001 \"UEFI Misc Device\": Not Found\nUEFI Interactive Shell v2.2\n";
        assert_eq!(parse(lost), BootLog { shell: true, ..BootLog::default() });
    }
}
