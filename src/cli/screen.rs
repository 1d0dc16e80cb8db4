//! A screen of a terminal that is drawn again and again, and gone without a trace at the end.
//!
//! It is the terminal's second screen, the one of editors and pagers: whatever was on the first is there again afterwards, and
//! no drawing depends on how the terminal broke the lines of the one before.

use console::{measure_text_width, truncate_str};

use crate::error::Result;
use crate::model::plain::styled;

use super::output;

/// To the second screen, without a cursor (xterm's control sequences).
const ENTER: &str = "\x1b[?1049h\x1b[?25l";

const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// To the first line; what is behind a line, and below the last one, is erased after it was written, so nothing flickers.
const HOME: &str = "\x1b[H";
const ERASE_LINE: &str = "\x1b[K";
const ERASE_BELOW: &str = "\x1b[J";

/// The screen, until it is dropped.
pub struct Screen(());

impl Screen {
    /// Returns whether standard output is a terminal that has one.
    pub fn is_there() -> bool {
        output::is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    pub fn enter() -> Result<Self> {
        output::control(ENTER)?;
        Ok(Screen(()))
    }

    /// Draws the text, as far as it fits, and returns whether somebody still looks at it.
    pub fn draw(&self, text: &str) -> Result<bool> {
        let (width, height) = output::size();
        output::control(HOME)?;
        let mut lines = fit(text, width, height).into_iter().peekable();
        while let Some(line) = lines.next() {
            output::text(&line)?;
            output::control(ERASE_LINE)?;
            // A line break behind the last line would scroll a full screen.
            if lines.peek().is_some() {
                output::control("\n")?;
            }
        }
        output::control(ERASE_BELOW)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = output::control(LEAVE);
    }
}

/// Returns the lines of a text as a terminal of that size can show them; the last one tells how many are missing.
fn fit(text: &str, width: usize, height: usize) -> Vec<String> {
    let text = styled(text).replace('\t', " ");
    let lines: Vec<&str> = text.lines().collect();
    let cut = |line: &str| match measure_text_width(line) {
        // The last column stays free: after a character in it, terminals differ in where the line goes on.
        long if long >= width => truncate_str(line, width.saturating_sub(1), "…").into_owned(),
        _ => line.to_owned(),
    };
    if lines.len() <= height {
        return lines.into_iter().map(cut).collect();
    }
    let shown = height.saturating_sub(1);
    let more = format!("… {} more lines", lines.len() - shown);
    lines[..shown].iter().copied().chain([more.as_str()]).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_or_low_terminal_gets_what_fits() {
        let text = "NAME  STATE\nweb   running\ndb    off\n";
        assert_eq!(fit(text, 80, 24), ["NAME  STATE", "web   running", "db    off"]);
        assert_eq!(fit(text, 13, 3), ["NAME  STATE", "web   runni…", "db    off"]);
        assert_eq!(fit(text, 80, 2), ["NAME  STATE", "… 2 more lines"]);
        assert_eq!(fit(text, 4, 1), ["… …"]);
        let styled = "\x1b[32mrunning\x1b[0m for a long time";
        assert_eq!(measure_text_width(&fit(styled, 10, 1)[0]), 9, "a colour takes no room");
    }
}
