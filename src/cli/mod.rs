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

use clap::Parser;
use signal_hook::consts::SIGINT;

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
        (0, Some(report)) => ExitCode::from(report.exit_code),
        (code, _) => ExitCode::from(code),
    }
}

/// The first ^C asks for an orderly end; the second does not wait for it.
fn listen_for_interrupt() {
    // Order matters: were the flag set first, one ^C would already end the process.
    let flag = interrupt::flag();
    let second = signal_hook::flag::register_conditional_shutdown(SIGINT, 130, flag.clone());
    // Without a handler ^C ends the process at once, which every operation survives.
    let _ = second.and_then(|_| signal_hook::flag::register(SIGINT, flag));
}
