//! `logs`: the guest's journal by whatever way leads to it, or its serial log.

use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use crate::error::{Failure, Result};
use crate::interrupt;
use crate::ops::{self, Call, Log, LogRequest};

use super::change_args::Logs;
use super::commands::machine_name;
use super::show::Shown;
use super::terminal::Terminal;

/// Carries out `logs`.
///
/// # Errors
/// There is no such machine, or its log cannot be read.
pub fn logs(call: &Call, args: &Logs, json: bool, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    if json && args.follow {
        return Err(Failure::usage("`--json` prints one value, and `--follow` has no end")
            .hint("leave one of the two out")
            .into());
    }
    let setup = call.machine(&name)?;
    let asked =
        LogRequest { unit: args.unit.clone(), lines: args.lines, follow: args.follow, serial: args.serial };
    let (source, text) = match ops::logs(&setup, &name, &asked, terminal)? {
        Log::Ssh(command) if json => ("journal", String::from_utf8_lossy(&command.output()?).into_owned()),
        Log::Ssh(command) => {
            // Not replaced by ssh, which ends with the code of a bug of nixvm's where it fails and where ^C ends it.
            let ended = command.interactive()?;
            interrupt::check()?;
            if !ended.success() && !reader_went_away() {
                return Err(Failure::user(format!("{name} cannot show its journal ({ended})"))
                    .hint(format!("`nixvm logs {name} --serial` shows what it printed on its serial port"))
                    .into());
            }
            ("journal", String::new())
        }
        Log::Journal(text) => ("journal", text),
        Log::Serial => {
            terminal.rest();
            let mut lines = Lines {
                to: if json { None } else { Some(io::stdout()) },
                open: Vec::new(),
                all: String::new(),
            };
            match ops::serial_log(&setup, &name, &asked, &mut lines) {
                // A reader that went away (`nixvm logs web --serial | head`) is no error.
                Err(error) if went_away(&error) => {}
                done => done?,
            }
            ("serial", lines.end()?)
        }
    };
    let shown = Shown::new(
        &json!({ "machine": name, "source": source, "lines": text.lines().collect::<Vec<_>>() }),
        if source == "serial" { String::new() } else { text },
    );
    Ok(shown)
}

fn went_away(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| Some(cause.downcast_ref::<io::Error>()?.kind());
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}

/// Returns whether nobody reads standard output any more, as poll(2) tells of a pipe.
fn reader_went_away() -> bool {
    let stdout = io::stdout();
    let mut pipe = [PollFd::new(&stdout, PollFlags::empty())];
    let polled = poll(&mut pipe, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    polled.is_ok() && pipe[0].revents().contains(PollFlags::ERR)
}

/// Prints whole lines of a serial log, without what would move the cursor or clear the screen.
struct Lines {
    to: Option<io::Stdout>,
    open: Vec<u8>,
    /// What was printed, where it goes into a JSON value.
    all: String,
}

impl Lines {
    fn print(&mut self, line: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(line);
        let plain = ops::plain(&text);
        match &mut self.to {
            Some(to) => to.write_all(plain.as_bytes()),
            None => {
                self.all.push_str(&plain);
                Ok(())
            }
        }
    }

    /// Prints what has no line's end yet, and returns what was not printed to standard output.
    fn end(mut self) -> Result<String> {
        if !self.open.is_empty() {
            let mut rest = std::mem::take(&mut self.open);
            rest.push(b'\n');
            let _ = self.print(&rest);
        }
        Ok(self.all)
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.open.extend_from_slice(bytes);
        while let Some(end) = self.open.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.open.drain(..=end).collect();
            self.print(&line)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.as_mut().map_or(Ok(()), Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_move_the_cursor_of_who_reads_its_log() {
        let mut lines = Lines { to: None, open: Vec::new(), all: String::new() };
        for part in ["\x1b[=3h\x1b[2J\x1b[01;01HUEFI\r\nwel", "come \x1b[0;1;32mOK\x1b[0m\x07\n", "login: "] {
            lines.write_all(part.as_bytes()).unwrap();
        }
        assert_eq!(lines.end().unwrap(), "UEFI\nwelcome OK\nlogin: \n");
    }
}
