//! Values as XML text.

use minijinja::value::{Object, Value, ValueKind};

use crate::error::Failure;
use crate::libvirt::xml::checked;

/// An element that nixvm wrote as XML already. Nothing else is printed as it is.
#[derive(Debug)]
pub(super) struct Element(pub String);

impl Object for Element {}

/// Returns `value` as XML, fit for an element's text and for an attribute in quotes of either kind.
///
/// # Errors
/// A string holds a character that XML 1.0 has no way to write; the value is neither string nor number.
pub(super) fn text(value: &Value) -> Result<String, Failure> {
    if let Some(Element(xml)) = value.downcast_object_ref() {
        return Ok(xml.clone());
    }
    match value.kind() {
        ValueKind::String => checked(value.as_str().unwrap_or_default()),
        ValueKind::Number if value.is_integer() => Ok(value.to_string()),
        kind => Err(Failure::bug(format!("a template prints a {kind} into an XML file"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_refused() {
        assert!(text(&Value::from("a\u{1b}b")).is_err());
        assert_eq!(text(&Value::from("<a>")).unwrap(), "&lt;a&gt;");
        assert_eq!(text(&Value::from(u64::MAX)).unwrap(), u64::MAX.to_string());
        assert!(text(&Value::from(vec![1])).is_err());
        assert_eq!(text(&Value::from_object(Element("<a/>".into()))).unwrap(), "<a/>");
    }
}
