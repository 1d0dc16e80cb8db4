//! Nix files, read without Nix.

use rnix::parser::ParseError;
use rnix::{SyntaxKind, TextSize};

use crate::error::Failure;

/// Checks that `text` is one Nix expression. The error names `label`, most often a path, with line and column, counted from 1.
pub fn check(label: &str, text: &str) -> Result<(), Failure> {
    let parsed = rnix::Root::parse(text);
    let Some(error) = parsed.errors().first() else { return Ok(()) };
    let (offset, what) = describe(error, text);
    let (line, column) = position(text, offset);
    Err(Failure::user(format!("{label}:{line}:{column}: {what}"))
        .hint("this file is not valid Nix; fix that line, or look a little above it for a bracket or quote that is not closed"))
}

/// Returns the first paragraph of the comment at the beginning of a Nix file, in one line.
pub fn doc_comment(text: &str) -> Option<String> {
    let opening = rnix::tokenize(text)
        .into_iter()
        .take_while(|(kind, _)| matches!(kind, SyntaxKind::TOKEN_COMMENT | SyntaxKind::TOKEN_WHITESPACE));
    let mut words: Vec<&str> = Vec::new();
    for (kind, token) in opening {
        if kind == SyntaxKind::TOKEN_WHITESPACE {
            if !words.is_empty() && token.matches('\n').count() > 1 {
                break;
            }
            continue;
        }
        let body = token.strip_prefix("/*").and_then(|body| body.strip_suffix("*/")).unwrap_or(token);
        let mut ended = false;
        for line in body.lines().map(|line| line.trim().trim_start_matches(['#', '*']).trim()) {
            ended = line.is_empty() && !words.is_empty();
            if ended {
                break;
            }
            words.extend(line.split_whitespace());
        }
        if ended {
            break;
        }
    }
    (!words.is_empty()).then(|| words.join(" "))
}

fn describe(error: &ParseError, text: &str) -> (usize, String) {
    let end = text.trim_end().len();
    let list = |kinds: &[SyntaxKind]| kinds.iter().copied().map(name).collect::<Vec<_>>().join(" or ");
    match error {
        ParseError::Unexpected(range) => (start(range.start()), "this was not expected here".to_owned()),
        ParseError::UnexpectedExtra(range) => {
            (start(range.start()), "the expression had ended before this".to_owned())
        }
        ParseError::UnexpectedWanted(got, range, wanted) => {
            (start(range.start()), format!("found {}, expected {}", name(*got), list(wanted)))
        }
        ParseError::UnexpectedDoubleBind(range) => (start(range.start()), "a second `@` name".to_owned()),
        ParseError::DuplicatedArgs(range, name) => {
            (start(range.start()), format!("a second argument `{name}`"))
        }
        ParseError::UnexpectedEOF => (end, "the file ends too early".to_owned()),
        ParseError::UnexpectedEOFWanted(wanted) => (end, format!("the file ends, expected {}", list(wanted))),
        ParseError::RecursionLimitExceeded => (end, "expressions are nested too deeply".to_owned()),
        other => (end, other.to_string()),
    }
}

fn start(offset: TextSize) -> usize {
    offset.into()
}

/// Returns line and column of a byte offset, in characters, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

fn name(kind: SyntaxKind) -> String {
    use SyntaxKind::*;
    match kind {
        TOKEN_SEMICOLON => "`;`",
        TOKEN_COLON => "`:`",
        TOKEN_COMMA => "`,`",
        TOKEN_ASSIGN => "`=`",
        TOKEN_DOT => "`.`",
        TOKEN_AT => "`@`",
        TOKEN_L_BRACE => "`{`",
        TOKEN_R_BRACE => "`}`",
        TOKEN_L_BRACK => "`[`",
        TOKEN_R_BRACK => "`]`",
        TOKEN_L_PAREN => "`(`",
        TOKEN_R_PAREN => "`)`",
        TOKEN_IN => "`in`",
        TOKEN_THEN => "`then`",
        TOKEN_ELSE => "`else`",
        TOKEN_IDENT => "a name",
        TOKEN_INTEGER | TOKEN_FLOAT => "a number",
        TOKEN_STRING_START => "a string",
        other => return format!("{other:?}").trim_start_matches("TOKEN_").to_lowercase().replace('_', " "),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_has_line_and_column() {
        for (text, message) in [
            ("{\n  a = 1;\n  é = 2\n}\n", "f.nix:3:3: "),
            ("{\n  a = 1\n}\n", "f.nix:3:1: found `}`, expected `;`"),
            ("{ a = [ 1 2; }", "f.nix:1:12: "),
            ("{ a = 1;\n\n", "f.nix:1:9: the file ends"),
            ("{ } }", "f.nix:1:5: the expression had ended before this"),
            ("", "f.nix:1:1: the file ends"),
        ] {
            let error = check("f.nix", text).expect_err(text).to_string();
            assert!(error.starts_with(message), "{text:?}: {error}");
        }
        check("f.nix", "{ config, ... }:\n{ a = \"${config.b}\"; }\n").unwrap();
        assert!(check("f.nix", &"(".repeat(100_000)).is_err());
    }

    #[test]
    fn a_profile_says_what_it_is() {
        for (text, comment) in [
            ("# Core and Docker.\n{ }", Some("Core and Docker.")),
            ("\n#  One that\n# goes on.\n#\n# More.\n{ }", Some("One that goes on.")),
            ("# One.\n\n# Another.\n{ }", Some("One.")),
            ("/* Block\n * of two. */ { }", Some("Block of two.")),
            ("/**\n  Doc.\n\n  More.\n*/\n{ }", Some("Doc.")),
            ("{ }\n# late", None),
            ("#\n{ }", None),
            ("", None),
        ] {
            assert_eq!(doc_comment(text).as_deref(), comment, "{text:?}");
        }
    }
}
