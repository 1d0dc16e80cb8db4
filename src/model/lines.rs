//! Files of one item a line.

use std::str::FromStr;

use crate::error::{Explain, Failure, Result};

/// Returns the items of a text with their line numbers, counted from 1: every line that is neither blank nor a `#` comment.
///
/// Lines end in LF or CRLF. Leading blanks are dropped; trailing text belongs to the item.
pub fn items(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.trim_start_matches([' ', '\t'])))
        .filter(|(_, line)| !line.trim_end().is_empty() && !line.starts_with('#'))
}

/// Returns every item of a text, parsed; `label` names the text in messages, most often a path.
pub fn parse<T: FromStr<Err = Failure>>(label: &str, text: &str) -> Result<Vec<T>> {
    Ok(numbered(label, text)?.into_iter().map(|(_, item)| item).collect())
}

/// Does the same, with the number of each item's line.
pub fn numbered<T: FromStr<Err = Failure>>(label: &str, text: &str) -> Result<Vec<(usize, T)>> {
    let wrong = |line| Failure::user(format!("{label}, line {line}, is wrong"));
    items(text).map(|(line, item)| Ok((line, item.parse().explain(|| wrong(line))?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;
    use crate::model::Vcpus;

    #[test]
    fn comments_and_blank_lines_are_skipped_but_counted() {
        let text = "# first\r\n\r\n  8080\r\n \t \n\t# no\n9 # 8\n";
        assert_eq!(items(text).collect::<Vec<_>>(), [(3, "8080"), (6, "9 # 8")]);
    }

    #[test]
    fn a_message_has_file_and_line() {
        let report = Report::of(&parse::<Vcpus>("machines/web/vcpus", "1\n#\nx\n").unwrap_err());
        assert_eq!(report.error, "machines/web/vcpus, line 3, is wrong");
        assert_eq!(report.causes, ["`x` is not a number of virtual CPUs"]);
        assert_eq!(report.hints.len(), 1);
    }
}
