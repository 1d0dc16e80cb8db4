//! Quoting a refused value in a message.

const SHOWN: usize = 60;

/// Returns `value` between backticks, fit for one line of a terminal.
///
/// The value may be anything that a user or a broken file contains: bytes that are not UTF-8 are shown as `U+FFFD`, control
/// characters are escaped, and a long value ends in `…`.
pub fn quote(value: impl AsRef<[u8]>) -> String {
    let text = String::from_utf8_lossy(value.as_ref());
    let mut shown = String::from("`");
    for (i, c) in text.chars().enumerate() {
        if i == SHOWN {
            shown.push('…');
            break;
        }
        // Backslashes and quotes stay as they were typed; only invisible characters are escaped.
        if c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown.push('`');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_one_short_line_whatever_it_quotes() {
        assert_eq!(quote("80-90"), "`80-90`");
        assert_eq!(quote(""), "``");
        assert_eq!(quote("a\nb\0\u{1b}[2J"), r"`a\nb\u{0}\u{1b}[2J`");
        assert_eq!(quote("\u{202e}txt"), r"`\u{202e}txt`");
        assert_eq!(quote(b"\xff!"), "`\u{fffd}!`");
        assert_eq!(quote("é".repeat(100)), format!("`{}…`", "é".repeat(60)));
        assert_eq!(quote("x".repeat(60)), format!("`{}`", "x".repeat(60)));
    }
}
