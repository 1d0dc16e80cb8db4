//! Values as XML text.

use minijinja::value::{Value, ValueKind};

use crate::error::Failure;
use crate::model::quote;

/// Returns `value` as XML, fit for an element's text and for an attribute in quotes of either kind.
///
/// # Errors
/// A string holds a character that XML 1.0 has no way to write; the value is neither string nor number.
pub(super) fn text(value: &Value) -> Result<String, Failure> {
    let text = match value.kind() {
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        ValueKind::Number if value.is_integer() => value.to_string(),
        kind => return Err(Failure::bug(format!("a template prints a {kind} into an XML file"))),
    };
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            // A parser makes blanks of these in an attribute (XML 1.0, 3.3.3) and LF of CR anywhere.
            '\t' | '\n' | '\r' => escaped.push_str(&format!("&#{};", u32::from(c))),
            c if is_char(c) => escaped.push(c),
            _ => {
                return Err(Failure::user(format!("{} cannot be written into XML", quote(&text)))
                    .hint("take the control characters out of it; a workspace's path is a usual place"));
            }
        }
    }
    Ok(escaped)
}

/// Returns whether XML 1.0 has the character (production 2, `Char`); a Rust `char` is never a surrogate.
fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use quick_xml::Reader;
    use quick_xml::events::Event;

    /// Returns what a parser sees in an attribute and in an element's text.
    fn read(escaped: &str) -> (String, String) {
        let document = format!("<a b=\"{escaped}\">{escaped}</a>");
        let mut reader = Reader::from_str(&document);
        let (mut attribute, mut content) = (String::new(), String::new());
        loop {
            match reader.read_event().unwrap() {
                Event::Start(start) => {
                    for found in start.attributes() {
                        attribute.push_str(&found.unwrap().unescape_value().unwrap());
                    }
                }
                Event::Text(text) => content.push_str(&text.decode().unwrap()),
                Event::GeneralRef(reference) => match reference.resolve_char_ref().unwrap() {
                    Some(c) => content.push(c),
                    None => {
                        let name = reference.decode().unwrap();
                        content.push_str(quick_xml::escape::resolve_predefined_entity(&name).unwrap());
                    }
                },
                Event::Eof => return (attribute, content),
                _ => {}
            }
        }
    }

    #[test]
    fn what_xml_cannot_hold_is_refused() {
        for bad in ["\0", "a\u{1b}b", "\u{ffff}", "\u{b}"] {
            assert!(text(&Value::from(bad)).is_err(), "{bad:?}");
        }
        assert_eq!(text(&Value::from("\u{1f980}é")).unwrap(), "\u{1f980}é");
        assert_eq!(text(&Value::from(u64::MAX)).unwrap(), u64::MAX.to_string());
        assert!(text(&Value::from(vec![1])).is_err());
    }

    proptest! {
        #[test]
        fn any_string_arrives(value in any::<String>()) {
            match text(&Value::from(value.as_str())) {
                Ok(escaped) => {
                    prop_assert!(!escaped.contains(['<', '>', '"', '\'', '\n', '\r', '\t']));
                    prop_assert_eq!(read(&escaped), (value.clone(), value));
                }
                Err(_) => prop_assert!(value.chars().any(|c| !is_char(c))),
            }
        }

        #[test]
        fn so_does_any_mixture_of_what_xml_gives_a_meaning(value in "[&<>\"'#;ampx \n\r\t\\]]{0,12}") {
            let escaped = text(&Value::from(value.as_str())).unwrap();
            prop_assert_eq!(read(&escaped), (value.clone(), value));
        }
    }
}
