//! Values of a machine's files that are `yes` or `no`.

use super::quote;
use crate::error::Failure;

/// Returns the value of such a file, or of such a setting.
pub fn parse(text: &str) -> Result<bool, Failure> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => {
            Err(Failure::user(format!("{} is neither `yes` nor `no`", quote(other)))
                .hint("write `yes` or `no`"))
        }
    }
}

pub fn word(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_two_words() {
        for value in [true, false] {
            assert_eq!(parse(word(value)).unwrap(), value);
        }
        for other in ["", "Yes", "true", "1", "on"] {
            assert!(parse(other).unwrap_err().to_string().ends_with("is neither `yes` nor `no`"), "{other}");
        }
    }
}
