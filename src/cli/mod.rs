//! The command line: reads the terminal, the environment and the home folder, asks, prints and exits.

mod args;
mod backup;
mod backup_args;
mod change;
mod change_args;
mod commands;
mod copies;
mod create;
mod generation_args;
mod generations;
mod keys;
mod logs;
mod network;
mod output;
mod passwd;
mod prompt;
mod raw;
mod show;
mod snapshot_args;
mod snapshots;
mod terminal;
mod update;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::Report;
use crate::interrupt;

use args::Cli;
use terminal::{Terminal, error_text};

/// Runs nixvm on the process's own arguments and returns the exit code.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let terminal = Terminal::new(&cli.global);
    listen_for_interrupt();
    let json = cli.global.json;
    let result = commands::run(cli, &terminal);
    terminal.rest();
    let (text, exit_code) = match result {
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
    let unwritten = output::result(&text).map_err(|error| Report::of(&error)).err();
    if let Some(report) = &unwritten {
        terminal.line(&error_text(report));
    }
    match (exit_code, unwritten) {
        (0, Some(report)) => end(report.exit_code),
        (code, _) => end(code),
    }
}

/// ^C, SIGTERM and a terminal that is closed ask for an orderly end; the same a second time does not wait for it. A session
/// that ends sends SIGTERM and SIGHUP, one after the other: those are one request.
fn listen_for_interrupt() {
    let ignored = ignored_signals();
    for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0) {
        // Order matters: were the flag set first, the first would already end the process.
        let before = Arc::<AtomicBool>::default();
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, before.clone());
        let _ = signal_hook::flag::register(signal, before);
        // Without a handler the signal ends the process at once, which every operation survives.
        let number = usize::try_from(signal).unwrap_or_default();
        let _ = signal_hook::flag::register_usize(signal, interrupt::signal(), number);
        let _ = signal_hook::flag::register(signal, interrupt::flag());
    }
}

/// Returns the signals that whoever started this process had it ignore, as nohup(1) does: a bit each, from 1 on (proc(5)).
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Returns the exit code: what was interrupted ends as a shell reports a process that its signal ended.
fn end(code: u8) -> ExitCode {
    let signal = u8::try_from(interrupt::signal().load(Ordering::Relaxed)).unwrap_or_default();
    match (code, signal) {
        (130, 1..) => ExitCode::from(128 + signal),
        _ => ExitCode::from(code),
    }
}
