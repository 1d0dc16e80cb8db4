//! Values as Nix expressions.

use minijinja::value::{Value, ValueKind};

use crate::error::Failure;

/// Returns `value` as a Nix expression: a string in quotes, a list in brackets, a number, `true`, `false` or `null`.
///
/// # Errors
/// A string holds a NUL, which a string of Nix cannot; the value is of another kind.
pub(super) fn expression(value: &Value) -> Result<String, Failure> {
    match value.kind() {
        ValueKind::None => Ok("null".to_owned()),
        // A negative number would need parentheses inside a list; nixvm never writes one.
        ValueKind::Number if value.is_integer() && !value.to_string().starts_with('-') => {
            Ok(value.to_string())
        }
        ValueKind::Bool => Ok(if value.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::String => string(value.as_str().unwrap_or_default()),
        ValueKind::Seq => {
            let items = value.try_iter().map_err(|cause| other(value).because(cause))?;
            let mut list = "[ ".to_owned();
            for item in items {
                list.push_str(&expression(&item)?);
                list.push(' ');
            }
            list.push(']');
            Ok(list)
        }
        _ => Err(other(value)),
    }
}

fn other(value: &Value) -> Failure {
    Failure::bug(format!("a template prints a {} into a Nix file", value.kind()))
}

/// Returns `text` as a string literal of Nix, in one line; see "String literal" in the Nix manual.
fn string(text: &str) -> Result<String, Failure> {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\0' => {
                return Err(Failure::user("a value holds a NUL, which a string of Nix cannot")
                    .hint("take the NUL out of the machine's files"));
            }
            '"' => literal.push_str("\\\""),
            '\\' => literal.push_str("\\\\"),
            '\n' => literal.push_str("\\n"),
            // Nix would read a bare CR as the end of a line.
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            '$' if rest.peek() == Some(&'{') => literal.push_str("\\$"),
            c => literal.push(c),
        }
    }
    literal.push('"');
    Ok(literal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec;
    use proptest::prelude::*;
    use rnix::ast::{AstToken, Expr, InterpolPart};

    /// What trips a careless writer of Nix strings.
    const NASTY: [&str; 14] = [
        "",
        "\"",
        "\\",
        "${x}",
        "$${x}",
        "\\${x}",
        "$$",
        "''${x}''",
        "a\nb\r\nc\td",
        "{{ x }}",
        "<&>'#",
        "é\u{1f980}\u{202e}\u{feff}",
        "\u{1}\u{7f}",
        "$",
    ];

    /// Returns the string that a literal denotes, by the manual's rules; `None` if it is no plain literal.
    fn read(literal: &str) -> Option<String> {
        let parsed = rnix::Root::parse(literal).ok().ok()?;
        let Expr::Str(literal) = parsed.expr()? else { return None };
        let mut text = String::new();
        for part in literal.parts() {
            let InterpolPart::Literal(content) = part else { return None };
            let mut chars = content.syntax().text().chars();
            while let Some(c) = chars.next() {
                text.push(match (c, c == '\\') {
                    (_, false) => c,
                    _ => match chars.next()? {
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        other => other,
                    },
                });
            }
        }
        Some(text)
    }

    #[test]
    fn kinds_become_nixs() {
        for (value, nix) in [
            (Value::from(()), "null"),
            (Value::from(true), "true"),
            (Value::from(false), "false"),
            (Value::from(8080), "8080"),
            (Value::from(Vec::<u16>::new()), "[ ]"),
            (Value::from(vec![22, 80]), "[ 22 80 ]"),
            (Value::from(vec!["a", "b c"]), r#"[ "a" "b c" ]"#),
        ] {
            assert_eq!(expression(&value).unwrap(), nix);
        }
        for value in [Value::from(-1), Value::from(1.5), minijinja::context! { a => 1 }, Value::from("\0")] {
            assert!(expression(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn nasty_strings_arrive_in_nix_itself() {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if exec::find("nix", &path).is_none() {
            eprintln!("SKIPPED: no `nix` on PATH to read the strings with");
            return;
        }
        let store = tempfile::tempdir().unwrap();
        let list = expression(&Value::from(NASTY.to_vec())).unwrap();
        let json = exec::Command::new("nix")
            .args(["--extra-experimental-features", "nix-command", "eval", "--json", "--store", "dummy://"])
            .args(["--expr", &list])
            .env("NIX_STATE_DIR", store.path())
            .output()
            .unwrap();
        assert_eq!(serde_json::from_slice::<Vec<String>>(&json).unwrap(), NASTY);
    }

    #[test]
    fn nasty_strings_arrive() {
        for text in NASTY {
            assert_eq!(read(&string(text).unwrap()).as_deref(), Some(text));
        }
    }

    proptest! {
        #[test]
        fn any_string_arrives(text in any::<String>()) {
            match string(&text) {
                Ok(literal) => {
                    prop_assert!(!literal.contains(['\n', '\r']));
                    prop_assert_eq!(read(&literal), Some(text));
                }
                Err(_) => prop_assert!(text.contains('\0')),
            }
        }

        #[test]
        fn so_does_any_mixture_of_what_nix_gives_a_meaning(text in "[\"\\\\$\\{\\}'nrt\n\r\t]{0,12}") {
            prop_assert_eq!(read(&string(&text).unwrap()), Some(text));
        }

        #[test]
        fn lists_keep_their_length(texts in prop::collection::vec("[^\0]*", 0..5)) {
            let list = expression(&Value::from(texts.clone())).unwrap();
            let Some(Expr::List(list)) = rnix::Root::parse(&list).ok().unwrap().expr() else { panic!("no list") };
            prop_assert_eq!(list.items().count(), texts.len());
        }
    }
}
