//! XML from and for libvirt.

use std::borrow::Cow;

use roxmltree::{Document, Error, Node};

use crate::error::{Explain, Failure, Result};
use crate::model::quote;

/// Gives `see` the root element of a document and returns its result.
///
/// libvirt prints the metadata of domains as its author wrote it, even with prefixes that are declared nowhere. They are treated
/// as declared here: a domain of another tool must not keep nixvm from reading which volumes all domains use.
///
/// # Errors
/// It is no XML.
pub fn read<T>(xml: &str, see: impl FnOnce(Node<'_, '_>) -> T) -> Result<T> {
    let mut xml = Cow::Borrowed(xml);
    loop {
        let undeclared = match Document::parse(&xml) {
            Err(Error::UnknownNamespace(prefix, _)) => format!(" xmlns:{prefix}=\"urn:undeclared\""),
            parsed => {
                let document = parsed.explain(|| Failure::bug("cannot read libvirt's XML"))?;
                return Ok(see(document.root_element()));
            }
        };
        let name = xml.find(|c: char| c.is_whitespace() || c == '>');
        match name.filter(|_| !xml.contains(&undeclared)) {
            Some(end) => xml.to_mut().insert_str(end, &undeclared),
            None => return Err(Failure::bug("cannot read libvirt's XML").into()),
        }
    }
}

/// Returns the elements at a place, given by the names from the root on: `domain/devices/disk`.
pub fn all<'a, 'input>(root: Node<'a, 'input>, place: &str) -> Vec<Node<'a, 'input>> {
    let mut names = place.split('/');
    let mut found = if names.next() == Some(root.tag_name().name()) { vec![root] } else { Vec::new() };
    for name in names {
        found =
            found.iter().flat_map(|node| node.children()).filter(|node| node.has_tag_name(name)).collect();
    }
    found
}

pub fn at<'a, 'input>(root: Node<'a, 'input>, place: &str) -> Option<Node<'a, 'input>> {
    all(root, place).into_iter().next()
}

pub fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.has_tag_name(name))
}

/// Returns an element's own text, trimmed.
pub fn text(node: Node<'_, '_>) -> String {
    let pieces = node.children().filter(Node::is_text).filter_map(|piece| piece.text());
    pieces.collect::<String>().trim().to_owned()
}

/// Returns the text of the first element at a place of a document; `None` if there is none, or no XML.
pub fn text_at(xml: &str, place: &str) -> Option<String> {
    read(xml, |root| at(root, place).map(text)).ok().flatten()
}

/// Returns the text as XML that a parser reads back as it was, in an element and in an attribute in quotes of either kind.
pub fn escape(text: &str) -> String {
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
            c => escaped.push(c),
        }
    }
    escaped
}

/// Returns the text as [`escape`] does.
///
/// # Errors
/// It holds a character that XML 1.0 has no way to write.
pub fn checked(text: &str) -> Result<String, Failure> {
    if text.chars().all(is_char) {
        return Ok(escape(text));
    }
    Err(Failure::user(format!("{} cannot be written into XML", quote(text)))
        .hint("take the control characters out of it; a workspace's path is a usual place"))
}

/// Returns whether XML 1.0 has the character (production 2, `Char`); a Rust `char` is never a surrogate.
fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_found_at_its_place_alone_and_unescaped() {
        let xml = "<pool><path>/no</path><target><path>\n /a &amp; b&#x2f;c </path><path>/second</path></target></pool>";
        assert_eq!(text_at(xml, "pool/target/path").as_deref(), Some("/a & b/c"));
        assert_eq!(text_at(xml, "pool/path").as_deref(), Some("/no"));
        assert_eq!(text_at(xml, "path"), None);
        assert_eq!(text_at("<pool><path/></pool>", "pool/path").as_deref(), Some(""));
    }

    #[test]
    fn what_is_no_xml_is_an_error() {
        assert!(read("<a><b></a>", |_| ()).is_err());
        assert_eq!(text_at("<a><b>x</b></c>", "a/b"), None);
    }

    #[test]
    fn prefixes_that_nobody_declared_are_no_error() {
        for xml in [
            "<a><b>x</b><c:d e:f='1'><c:g/></c:d></a>",
            "<a xmlns:q='urn:q'>\n<b>x</b><q:r><c:d/></q:r></a>",
            "<a c='1'><b>x</b><metadata><c:d e:f='1'/></metadata></a>",
        ] {
            assert_eq!(text_at(xml, "a/b").as_deref(), Some("x"), "{xml}");
        }
        assert!(read("<c:a/>", |_| ()).is_err() && read("<!-- > --><a><c:d/></a>", |_| ()).is_err());
    }

    #[test]
    fn what_xml_cannot_hold_is_refused() {
        for bad in ["\0", "a\u{1b}b", "\u{ffff}", "\u{b}"] {
            assert!(checked(bad).is_err(), "{bad:?}");
        }
        assert_eq!(checked("\u{1f980}é").unwrap(), "\u{1f980}é");
    }

    /// Returns what a parser sees in an attribute and in an element's text.
    fn parsed(escaped: &str) -> (String, String) {
        let document = format!("<a b=\"{escaped}\">{escaped}</a>");
        let document = Document::parse(&document).unwrap();
        let root = document.root_element();
        (root.attribute("b").unwrap().to_owned(), root.text().unwrap_or_default().to_owned())
    }

    proptest! {
        #[test]
        fn any_string_arrives(value in any::<String>()) {
            match checked(&value) {
                Ok(escaped) => {
                    prop_assert!(!escaped.contains(['<', '>', '"', '\'', '\n', '\r', '\t']));
                    prop_assert_eq!(parsed(&escaped), (value.clone(), value));
                }
                Err(_) => prop_assert!(value.chars().any(|c| !is_char(c))),
            }
        }

        #[test]
        fn so_does_any_mixture_of_what_xml_gives_a_meaning(value in "[&<>\"'#;ampx \n\r\t\\]]{0,12}") {
            prop_assert_eq!(parsed(&escape(&value)), (value.clone(), value));
        }
    }
}
