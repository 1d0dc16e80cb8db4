//! `logs`: the guest's journal, by ssh or through its agent, or its serial log.

use std::io::{self, ErrorKind, Write};

use serde_json::json;

use crate::cli::{Shown, Terminal, machine_name, output};
use crate::error::{Explain, Failure, Result};
use crate::exec::Command;
use crate::interrupt;
use crate::model::{MachineName, plain};
use crate::ops::{self, Call, Log, LogRequest};

/// Most bytes of a journal that become a JSON value, which is made in memory.
const MOST: u64 = 16 << 20;

/// Most bytes of a line that are kept until it ends.
const LINE: usize = 64 << 10;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm logs web                      the guest's journal, or its serial log if the guest does not answer
  nixvm logs web -f -u nginx
  nixvm logs web --serial -n 500")]
pub struct Logs {
    /// Name of the machine
    name: String,
    /// Keep printing what is added to the log
    #[arg(short, long)]
    follow: bool,
    /// Show only this unit's lines of the guest's journal
    #[arg(short, long, value_name = "UNIT", conflicts_with = "serial")]
    unit: Option<String>,
    /// Show the last LINES lines
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 100)]
    lines: u32,
    /// Show what the guest printed on its serial port; the machine may be off
    #[arg(long)]
    serial: bool,
}

pub fn run(call: &Call, args: &Logs, json: bool, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    if json && args.follow {
        return Err(Failure::usage("`--json` prints one value, and `--follow` has no end")
            .hint("leave out one of the two")
            .into());
    }
    let setup = call.machine(&name)?;
    let asked =
        LogRequest { unit: args.unit.clone(), lines: args.lines, follow: args.follow, serial: args.serial };
    let (source, text) = match ops::logs(&setup, &name, &asked, terminal)? {
        Log::Ssh(command) if json => ("journal", all(command, &name)?),
        Log::Ssh(command) => {
            // ssh does not replace this process: after a failure or ^C it exits with 255, the code of a bug in nixvm.
            terminal.rest();
            let mut read = true;
            let print = |line: &str| {
                read = output::text(&format!("{line}\n"))?;
                Ok(read)
            };
            let ended = command.lines(print, output::line)?;
            interrupt::check()?;
            if read && !ended.success() {
                return Err(Failure::user(format!("{name} cannot show its journal ({ended})"))
                    .hint(format!("`nixvm logs {name} --serial` shows what it printed on its serial port"))
                    .into());
            }
            ("journal", String::new())
        }
        Log::Journal(text) => ("journal", text),
        Log::Serial => {
            terminal.rest();
            let mut lines = Lines { json, open: Vec::new(), all: String::new() };
            match ops::serial_log(&setup, &name, &asked, &mut lines) {
                // It is no error if the reader went away (`nixvm logs web --serial | head`).
                Err(error) if went_away(&error) => {}
                done => done?,
            }
            ("serial", lines.end()?)
        }
    };
    let value = json!({ "machine": name, "source": source, "lines": text.lines().collect::<Vec<_>>() });
    Ok(Shown::new(&value, if source == "serial" { String::new() } else { text }))
}

fn went_away(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| Some(cause.downcast_ref::<io::Error>()?.kind());
    error.chain().any(|cause| kind(cause) == Some(ErrorKind::BrokenPipe))
}

fn all(command: Command, name: &MachineName) -> Result<String> {
    let printed = command.at_most(MOST).output().explain(|| {
        Failure::user(format!("{name} cannot show its journal"))
            .hint(format!("ask for fewer lines (`-n`), or leave out `--json`: `nixvm logs {name} -n 1000`"))
    })?;
    Ok(String::from_utf8_lossy(&printed).into_owned())
}

/// Prints whole lines of a serial log, without the control characters that move the cursor or clear the screen.
struct Lines {
    json: bool,
    open: Vec<u8>,
    /// The lines of the JSON value.
    all: String,
}

impl Lines {
    fn print(&mut self, bytes: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(bytes);
        if self.json {
            self.all.push_str(&plain(&text));
            return Ok(());
        }
        match output::text(&text) {
            Ok(true) => Ok(()),
            Ok(false) => Err(ErrorKind::BrokenPipe.into()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Prints an unfinished last line, and returns the lines of the JSON value.
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
        let whole = self.open.iter().rposition(|byte| *byte == b'\n').map(|end| end + 1);
        // A guest may never end a line.
        let long = (self.open.len() > LINE).then_some(self.open.len());
        if let Some(end) = whole.or(long) {
            let lines: Vec<u8> = self.open.drain(..end).collect();
            self.print(&lines)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_move_the_cursor_of_who_reads_its_log() {
        let mut lines = Lines { json: true, open: Vec::new(), all: String::new() };
        for part in ["\x1b[=3h\x1b[2J\x1b[01;01HUEFI\r\nwel", "come \x1b[0;1;32mOK\x1b[0m\x07\n", "login: "] {
            lines.write_all(part.as_bytes()).unwrap();
        }
        assert_eq!(lines.end().unwrap(), "UEFI\nwelcome OK\nlogin: \n");
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut lines = Lines { json: true, open: Vec::new(), all: String::new() };
        for _ in 0..5 {
            lines.write_all(&vec![b'x'; LINE]).unwrap();
            assert!(lines.open.len() <= LINE);
        }
    }
}
