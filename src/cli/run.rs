//! One run of the program: from its arguments to its output and exit code.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::Report;
use crate::interrupt;

use super::args::Cli;
use super::terminal::{Terminal, error_text};
use super::{commands, output};

/// Runs nixvm on the process's own arguments and returns the exit code.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let terminal = Terminal::new(&cli.global);
    listen_for_interrupt();
    let json = cli.global.json;
    let result = commands::run(cli, &terminal);
    terminal.rest();
    let (text, mut exit_code) = match result {
        Ok(shown) if json => (output::json(&shown.json), shown.exit_code),
        Ok(shown) => (shown.text, shown.exit_code),
        Err(error) => {
            let report = Report::of(&error);
            let text = if json { output::json(&serde_json::json!(report)) } else { String::new() };
            if !json {
                terminal.line(&error_text(&report));
            }
            (text, report.exit_code)
        }
    };
    if let Err(error) = output::result(&text) {
        let report = Report::of(&error);
        terminal.line(&error_text(&report));
        if exit_code == 0 {
            exit_code = report.exit_code;
        }
    }
    // An interrupted run ends as a shell reports a process that its signal ended.
    let signal = u8::try_from(interrupt::signal().load(Ordering::Relaxed)).unwrap_or_default();
    let exit_code = if exit_code == 130 && signal > 0 { 128 + signal } else { exit_code };
    ExitCode::from(exit_code)
}

/// ^C, SIGTERM and a closed terminal ask for an orderly end; the same signal a second time ends the process at once.
/// A session that ends sends SIGTERM and SIGHUP, one after the other: that is one request.
fn listen_for_interrupt() {
    let ignored = ignored_signals();
    for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0) {
        // The order matters: if the flag were set first, the first signal would already end the process.
        let before = Arc::<AtomicBool>::default();
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, before.clone());
        let _ = signal_hook::flag::register(signal, before);
        // Without a handler the signal ends the process at once, which every operation survives.
        let number = usize::try_from(signal).unwrap_or_default();
        let _ = signal_hook::flag::register_usize(signal, interrupt::signal(), number);
        let _ = signal_hook::flag::register(signal, interrupt::flag());
    }
}

/// Returns the signals that the parent process had this one ignore, as nohup(1) does: a bit each, from 1 on (proc(5)).
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}
