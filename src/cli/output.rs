//! The one place that writes to standard output and to standard error.
//!
//! A failed write ends nothing: an operation must not stop half way because a terminal was closed or a log's disk is
//! full. Text of a guest, an archive or a builder reaches the terminal without control characters.

use std::io::{self, ErrorKind, IsTerminal, Write};

use serde_json::Value;

use crate::error::{Explain, Failure, Result};
use crate::model::plain::{is_unsafe, plain, styled};

/// Writes a line to standard error, whether or not somebody reads it.
pub fn line(text: &str) {
    let text = if console::colors_enabled_stderr() { styled(text) } else { plain(text) };
    let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// Writes a result to standard output, if it has any text.
pub fn result(result: &str) -> Result<()> {
    let result = result.trim_end();
    if result.is_empty() {
        return Ok(());
    }
    text(&format!("{result}\n")).map(drop).explain(|| {
        Failure::user("the result is lost")
            .hint("the command itself is done: `nixvm list` or `nixvm status NAME` shows what it did")
    })
}

/// Writes text to standard output and returns whether somebody still reads it: a reader that went away
/// (`nixvm list | head`) is no error.
pub fn text(text: &str) -> Result<bool> {
    write(&if console::colors_enabled() { styled(text) } else { plain(text) })
}

fn write(text: &str) -> Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).explain(|| Failure::user("cannot write to standard output")),
    }
}

pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Returns how many columns and lines the terminal has that standard output is.
pub fn size() -> (usize, usize) {
    let (lines, columns) = console::Term::stdout().size();
    (columns.into(), lines.into())
}

/// Writes a control sequence to the terminal that standard output is, and returns whether somebody still looks at it.
pub fn control(sequence: &'static str) -> Result<bool> {
    write(sequence)
}

pub fn json(value: &Value) -> String {
    let mut text = String::new();
    for c in format!("{value:#}").chars() {
        // JSON allows these in a string as they are. All of them have four digits.
        if is_unsafe(c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_no_control_character_and_loses_none() {
        let value = serde_json::json!({ "a": "\u{1b}[2J\u{9b}\u{7f}\u{202e}é\n" });
        let text = json(&value);
        assert!(!text.contains(is_unsafe), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
