//! Tables, and what several of them have in their cells.

use std::fmt::Write as _;

use console::{Alignment, measure_text_width, pad_str, style};

use crate::model::domain::DomainState;

/// Returns rows under headings, each column as wide as its widest cell.
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let bold = headings.iter().map(|heading| style(heading).bold().to_string()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(bold).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| measure_text_width(&row[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| pad_str(cell, *width, Alignment::Left, None));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

/// Returns the value as a cell, `-` where there is none.
pub fn dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

pub fn state(state: Option<DomainState>) -> String {
    match state {
        Some(DomainState::Running) => style("running").green().to_string(),
        Some(other) => other.to_string(),
        None => style("declared").dim().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        console::set_colors_enabled(false);
        let text = table(
            &["NAME", "STATE"],
            [vec!["a-long-name".into(), "running".into()], vec!["b".into(), "shutoff".into()]],
        );
        assert_eq!(text, "NAME         STATE\na-long-name  running\nb            shutoff\n");
    }
}
