//! What libvirt describes in XML, read element by element.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::error::{Explain, Failure, Result};

/// What is found at a place in XML.
pub enum Found<'a> {
    /// The beginning of an element, with its attributes.
    Element(Element<'a>),
    /// Text, unescaped; an element's text may come in pieces.
    Text(&'a str),
}

/// The beginning of an element.
pub struct Element<'a>(BytesStart<'a>);

impl Element<'_> {
    /// Returns the attribute's value, unescaped; `None` where it is missing or malformed.
    pub fn attribute(&self, name: &str) -> Option<String> {
        Some(self.0.try_get_attribute(name).ok()??.unescape_value().ok()?.into_owned())
    }
}

/// Shows `visit` every element and text with its place: the names from the root on, `domain/devices/disk`.
///
/// # Errors
/// It is no XML.
pub fn walk(xml: &str, visit: &mut dyn FnMut(&str, Found<'_>)) -> Result<()> {
    walk_raw(xml, visit).explain(|| Failure::bug("cannot read libvirt's XML"))
}

fn walk_raw(xml: &str, visit: &mut dyn FnMut(&str, Found<'_>)) -> quick_xml::Result<()> {
    let mut reader = Reader::from_str(xml);
    reader.config_mut().expand_empty_elements = true;
    let mut place = String::new();
    loop {
        match reader.read_event()? {
            Event::Start(element) => {
                if !place.is_empty() {
                    place.push('/');
                }
                place.push_str(&String::from_utf8_lossy(element.name().as_ref()));
                visit(&place, Found::Element(Element(element)));
            }
            Event::End(_) => place.truncate(place.rfind('/').unwrap_or_default()),
            Event::Text(text) => visit(&place, Found::Text(&text.decode()?)),
            Event::GeneralRef(entity) => match entity.resolve_char_ref()? {
                Some(character) => visit(&place, Found::Text(character.encode_utf8(&mut [0; 4]))),
                None => {
                    let text = quick_xml::escape::resolve_predefined_entity(&entity.decode()?);
                    visit(&place, Found::Text(text.unwrap_or_default()));
                }
            },
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}

/// Returns the text of the first element at that place, trimmed; `None` where there is none.
pub fn text_at(xml: &str, place: &str) -> Option<String> {
    let (mut text, mut elements) = (String::new(), 0);
    walk(xml, &mut |at, found| match found {
        _ if at != place => {}
        Found::Element(_) => elements += 1,
        Found::Text(piece) if elements == 1 => text.push_str(piece),
        Found::Text(_) => {}
    })
    .ok()?;
    (elements > 0).then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(walk("<a><b></a>", &mut |_, _| {}).is_err());
        assert_eq!(text_at("<a><b>x</b></c>", "a/b"), None);
    }
}
