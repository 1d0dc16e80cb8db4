//! Making foreign text safe for a terminal.
//!
//! A guest, an archive or a builder may print anything, and a terminal obeys sequences that begin with ESC: they can
//! overwrite earlier lines, change the title or prepare the next paste.

use std::iter::Peekable;
use std::str::Chars;

/// Returns whether the character can mislead a terminal or its reader: a control character other than a line's end and a
/// tab, or one that changes the direction of the text.
pub fn is_unsafe(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (c.is_control() && c != '\n' && c != '\t')
}

/// Returns the text without control characters and without the sequences that a terminal obeys (ECMA-48).
pub fn plain(text: &str) -> String {
    filtered(text, false)
}

/// As [`plain`], but keeps colours: for text that nixvm coloured itself.
pub fn styled(text: &str) -> String {
    filtered(text, true)
}

/// Returns the first `width` characters of a text, followed by `…` if there are more.
pub fn shortened(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn filtered(text: &str, colours: bool) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => escape(&mut rest, colours, &mut kept),
            '\u{9b}' => drop(parameters(&mut rest)),
            // An overwritten line becomes two lines.
            '\r' if !matches!(rest.peek(), Some('\n' | '\r')) => kept.push('\n'),
            c if is_unsafe(c) => {}
            c => kept.push(c),
        }
    }
    kept
}

/// Skips the sequence after an ESC.
fn escape(rest: &mut Peekable<Chars<'_>>, colours: bool, kept: &mut String) {
    match rest.peek() {
        Some('[') => {
            rest.next();
            let sequence = parameters(rest);
            let digits = sequence.strip_suffix('m').unwrap_or("-");
            if colours && digits.chars().all(|c| c.is_ascii_digit() || c == ';') {
                kept.push_str("\x1b[");
                kept.push_str(&sequence);
            }
        }
        // A string for the terminal, such as its title, ends at BEL or ESC \, and at the line's end at the latest.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = rest.next_if(|c| *c != '\n') {
                if c == '\x07' || (c == '\x1b' && rest.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        Some('\n') | None => {}
        Some(_) => drop(rest.next()),
    }
}

/// Skips the parameters of a sequence and its last character, and returns both.
fn parameters(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut sequence = String::new();
    while let Some(c) = rest.next_if(|c| ('\x20'..='\x3f').contains(c)) {
        sequence.push(c);
    }
    sequence.extend(rest.next_if(|c| ('\x40'..='\x7e').contains(c)));
    sequence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        for (text, shown) in [
            ("\x1b[2J\x1b[01;01Hwel\x1b[0;1;32mcome\x1b[0m\x07", "welcome"),
            ("a\x1b]0;title\x07b\x1b]52;c;cGFzdGU=\x1b\\c", "abc"),
            ("a\x1b]0;no end\nb", "a\nb"),
            ("a\x1bPq#0;2\x1b\\b\x1b_x\x1b\\c", "abc"),
            ("a\u{9b}2Jb\u{85}\0\x7fc", "abc"),
            ("one\r\ntwo\rthree\tx\r\r\n", "one\ntwo\nthree\tx\n"),
            ("\u{202e}txt\u{2066}", "txt"),
            ("a\x1b[\nb\x1b", "a\nb"),
            ("é ✓ 漢", "é ✓ 漢"),
        ] {
            assert_eq!(plain(text), shown, "{text:?}");
            assert!(!styled(text).replace("\x1b[0;1;32m", "").replace("\x1b[0m", "").contains(is_unsafe));
        }
    }

    #[test]
    fn only_colours_are_left_of_what_nixvm_coloured() {
        let text = "\x1b[31mred\x1b[0m\x1b[2J\x1b[?25l\x1b[1;1Hx\x1b[>4;2m";
        assert_eq!(styled(text), "\x1b[31mred\x1b[0mx");
    }
}
