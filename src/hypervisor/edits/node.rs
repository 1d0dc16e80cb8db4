//! What the elements of a domain's XML are, read for a merge.

use roxmltree::Node;

use crate::hypervisor::definition::{BOOT, DATA, IDENTITY};
use crate::libvirt::xml;
use crate::model::record::{DEFINED_NAMESPACE, METADATA_NAMESPACE};

pub(super) fn source<'a>(node: Node<'a, '_>) -> &'a str {
    &node.document().input_text()[node.range()]
}

/// Returns an element's name with its prefix.
pub(super) fn qualified<'a>(node: Node<'a, '_>) -> &'a str {
    let tag = &source(node)[1..];
    &tag[..tag.find(|c: char| c.is_whitespace() || "/>".contains(c)).unwrap_or(tag.len())]
}

/// Returns an element's text; an amount of memory in MiB if it is a whole number of them.
pub(super) fn text(node: Node<'_, '_>) -> String {
    if node.children().any(|child| child.is_element()) {
        return String::new();
    }
    let text = node.text().unwrap_or_default().trim();
    let Some(unit) = node.attribute("unit") else { return text.to_owned() };
    match (text.parse::<u64>(), unit) {
        (Ok(kib), "KiB") if kib % 1024 == 0 => format!("{} MiB", kib / 1024),
        _ => format!("{text} {unit}"),
    }
}

/// Returns a disk's serial number if it is one of nixvm's.
pub(super) fn serial<'a>(disk: Node<'a, '_>) -> Option<&'a str> {
    let serial = xml::child(disk, "serial")?.text()?.trim();
    [BOOT, DATA, IDENTITY].contains(&serial).then_some(serial)
}

pub(super) fn card<'a>(interface: Node<'a, '_>) -> Option<&'a str> {
    xml::child(interface, "mac")?.attribute("address")
}

/// Returns what distinguishes a controller from others: name, type and index.
pub(super) fn kind<'a>(node: Node<'a, '_>) -> (&'a str, Option<&'a str>, &'a str) {
    let index = node.attribute("index").unwrap_or("0");
    (node.tag_name().name(), node.attribute("type"), index)
}

/// Returns whether the element says that the machine has no device of this kind.
pub(super) fn is_none(node: Node<'_, '_>) -> bool {
    match node.tag_name().name() {
        "controller" => node.attribute("model") == Some("none"),
        "video" => xml::child(node, "model").is_some_and(|model| model.attribute("type") == Some("none")),
        _ => false,
    }
}

pub(super) fn boot_order<'a>(node: Node<'a, '_>) -> Option<&'a str> {
    node.attribute("order").filter(|_| node.has_tag_name("boot"))
}

/// Returns whether nixvm wrote this title; see `templates/domain.xml.j2`.
pub(super) fn is_own_title(title: Node<'_, '_>) -> bool {
    text(title).contains(" (nixvm, profile ")
}

pub(super) fn is_own_metadata(node: Node<'_, '_>) -> bool {
    node.tag_name().namespace().is_some_and(|of| [METADATA_NAMESPACE, DEFINED_NAMESPACE].contains(&of))
}
