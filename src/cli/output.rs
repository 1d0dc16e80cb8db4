//! The one place that writes to standard output and to standard error.
//!
//! A write that fails ends nothing: an operation must not stop half way because a terminal was closed or a log's disk is full.
//! And whatever a guest, an archive or a builder says reaches the terminal without what a terminal obeys.

use std::io::{self, ErrorKind, Write};

use serde_json::Value;

use crate::error::{Explain, Failure, Result};
use crate::model::plain::{is_unsafe, plain, styled};

/// Writes a line to standard error; nobody needs to be there to read it.
pub fn line(text: &str) {
    let text = if console::colors_enabled_stderr() { styled(text) } else { plain(text) };
    let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// Writes a result to standard output; one without text is none.
///
/// # Errors
/// It cannot be written, as on a full disk. A reader that went away (`nixvm list | head`) is no error.
pub fn result(result: &str) -> Result<()> {
    match result.trim_end() {
        "" => Ok(()),
        shown => text(&format!("{shown}\n")).map(drop).explain(|| {
            Failure::user("the result is lost").hint(
                "the command itself is over: look at what it did with `nixvm list` or `nixvm status NAME`",
            )
        }),
    }
}

/// Writes text to standard output and returns whether there is still somebody who reads it.
///
/// # Errors
/// It cannot be written, as on a full disk.
pub fn text(text: &str) -> Result<bool> {
    let text = if console::colors_enabled() { styled(text) } else { plain(text) };
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).explain(|| Failure::user("cannot write to standard output")),
    }
}

/// Returns a JSON value as text for a person or a program.
pub fn json(value: &Value) -> String {
    let mut text = String::new();
    for c in format!("{value:#}").chars() {
        // Those that JSON allows in a string as they are; all of them have four digits.
        match is_unsafe(c) {
            true => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => text.push(c),
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
