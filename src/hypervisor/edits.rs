//! Changes made to a machine's definition by hand, with `virsh edit`, `virsh attach-disk --config` or virt-manager.
//!
//! nixvm renders a machine's whole definition from its files whenever it defines it. Rendered values win; everything else in
//! the present definition is kept: devices, tuning, descriptions, and additions of libvirt itself, so that a device keeps its
//! PCI address. If a value that nixvm renders was changed by hand, it is set back, and the user is told.
//!
//! nixvm records the values it defined in the definition. A value that differs from the record and from the rendered one was
//! changed by hand; one that equals the record is only out of date, because the machine's files or its host changed.

mod node;

use roxmltree::Node;

use self::node::{
    boot_order, card, is_none, is_own_metadata, is_own_title, kind, qualified, serial, source, text,
};
use crate::error::{Explain, Failure, Result};
use crate::libvirt::xml::{self, escape, read};
use crate::model::record::DEFINED_NAMESPACE;

/// Elements that nixvm or libvirt chooses again at each definition: the fitting emulator and firmware, backing files, and
/// values that follow from others (the balloon from the memory, a console's log from its serial port's).
const CHOSEN: [&str; 8] = [
    "domain/currentMemory",
    "domain/os/loader",
    "domain/os/boot",
    "domain/features/gic",
    "domain/devices/emulator",
    "domain/devices/disk/backingStore",
    "domain/devices/disk/mirror",
    "domain/devices/console/log",
];

/// Elements that are replaced as a whole, because their contents belong together.
const WHOLE: [&str; 3] = ["domain/os/nvram", "domain/devices/disk/source", "domain/devices/interface/source"];

/// Values that libvirt writes differently: the machine type with a version, bytes in another unit. And the places of images,
/// which each command checks before it begins.
const REWORDED: [&str; 4] = [
    "domain/os/type@machine",
    "domain/memory@unit",
    "domain/devices/disk@type",
    "domain/devices/disk/source@file",
];

/// The places of values that come from a machine's files and its host, with their names in the record.
const RECORDED: [(&str, &str); 8] = [
    ("domain@type", "type"),
    ("domain/cpu@mode", "cpu"),
    ("domain/memory", "memory"),
    ("domain/vcpu", "vcpus"),
    ("domain/devices/interface@type", "interface"),
    ("domain/devices/interface/source@network", "source"),
    ("domain/devices/interface/source@bridge", "source"),
    ("domain/devices/interface/mac@address", "mac"),
];

/// The values that nixvm last defined a machine with, as its definition records them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinedValues {
    /// libvirt's type of the domain: `kvm`, or `qemu` where the guest is emulated.
    pub kind: String,
    /// With its unit: "2048 MiB".
    pub memory: String,
    pub vcpus: String,
    pub mac: String,
    /// libvirt's type of the network card and what it is connected to; `None` for a card that QEMU itself connects.
    pub card: Option<(String, String)>,
}

/// Returns the recorded values of a definition; `None` where an older nixvm recorded none.
pub(super) fn defined_values(xml: &str) -> Result<Option<DefinedValues>> {
    read(xml, |root| {
        let record = record(root)?;
        let value = |name| record.attribute(name).map(str::to_owned);
        Some(DefinedValues {
            kind: value("type")?,
            memory: value("memory")?,
            vcpus: value("vcpus")?,
            mac: value("mac")?,
            card: value("interface").zip(value("source")),
        })
    })
}

#[derive(Debug)]
pub(super) struct MergedDefinition {
    pub xml: String,
    /// The values changed by hand that nixvm sets back: "memory from 1024 MiB to 2048 MiB".
    pub set_back: Vec<String>,
}

/// Returns the definition `rendered`, with everything that only `present`, as libvirt gives it, has.
pub(super) fn merge(rendered: &str, present: &str) -> Result<MergedDefinition> {
    let merged = read(rendered, |ours| read(present, |theirs| Merger::of(ours, theirs)));
    merged.and_then(|merged| merged).explain(|| Failure::bug("cannot read a domain's XML"))
}

/// Returns the element in which nixvm recorded the values it defined.
fn record<'a, 'input>(root: Node<'a, 'input>) -> Option<Node<'a, 'input>> {
    root.descendants().find(|node| node.tag_name().namespace() == Some(DEFINED_NAMESPACE))
}

struct Merger<'a, 'input> {
    /// The record of the last definition; older versions of nixvm wrote none.
    record: Option<Node<'a, 'input>>,
    /// The MAC addresses of the machine's network card, recorded and rendered.
    cards: Vec<&'a str>,
    xml: String,
    set_back: Vec<String>,
}

impl<'a, 'input> Merger<'a, 'input> {
    fn of(ours: Node<'a, 'input>, theirs: Node<'a, 'input>) -> MergedDefinition {
        let records = [ours, theirs].map(record);
        let mut merge = Merger {
            record: records[1],
            cards: records.iter().flatten().filter_map(|record| record.attribute("mac")).collect(),
            xml: String::new(),
            set_back: Vec::new(),
        };
        merge.element("domain", "", ours, theirs);
        MergedDefinition { xml: merge.xml + "\n", set_back: merge.set_back }
    }

    /// Writes an element that both definitions have: as rendered, with everything that only `theirs` has.
    fn element(&mut self, place: &str, label: &str, ours: Node<'_, '_>, theirs: Node<'_, '_>) {
        let of_another_kind = |name| ours.attribute(name) != theirs.attribute(name);
        let whole = match place {
            "domain/cpu" => of_another_kind("mode"),
            "domain/devices/interface" => of_another_kind("type"),
            _ => WHOLE.contains(&place),
        };
        let text_changed = self.compare(place, label, ours, theirs);
        if whole {
            return self.copy(ours);
        }
        let name = qualified(ours);
        self.xml += &format!("<{name}");
        if place == "domain" {
            self.declare_namespaces(ours, theirs);
        }
        for attribute in ours.attributes() {
            self.attribute(attribute.name(), attribute.value());
        }
        for attribute in theirs.attributes().filter(|attribute| !ours.has_attribute(attribute.name())) {
            // It counts processors out of the old number, and may exceed the new one.
            if place == "domain/vcpu" && attribute.name() == "current" && text_changed {
                continue;
            }
            self.attribute(attribute.name(), attribute.value());
        }
        self.xml.push('>');
        if !ours.has_children() || ours.children().any(|child| child.is_element()) {
            self.children(place, label, ours, theirs);
        } else {
            self.xml += &escape(ours.text().unwrap_or_default());
        }
        self.xml += &format!("</{name}>");
    }

    fn children(&mut self, place: &str, label: &str, ours: Node<'_, '_>, theirs: Node<'_, '_>) {
        let mut left: Vec<Node<'_, '_>> = theirs.children().filter(Node::is_element).collect();
        let orders: Vec<&str> = ours.descendants().filter_map(boot_order).collect();
        for child in ours.children().filter(Node::is_element) {
            let at = format!("{place}/{}", child.tag_name().name());
            // nixvm renders that there is no device of a kind; one added by hand wins.
            if is_none(child) && left.iter().any(|other| kind(*other) == kind(child) && !is_none(*other)) {
                continue;
            }
            self.xml.push('\n');
            // nixvm's own elements are not mixed with their older versions.
            let index = if place == "domain/metadata" { None } else { self.counterpart(&at, child, &left) };
            let Some(index) = index else {
                self.copy(child);
                continue;
            };
            let other = left.remove(index);
            match at.as_str() {
                "domain/title" if !is_own_title(other) => self.copy(other),
                "domain/commandline" => self.command_line(Some(child), other),
                _ => self.element(&at, &sublabel(label, child), child, other),
            }
        }
        for child in left {
            let at = format!("{place}/{}", child.tag_name().name());
            let is_own_card =
                at == "domain/devices/interface" && card(child).is_some_and(|mac| self.cards.contains(&mac));
            if CHOSEN.contains(&at.as_str()) {
                self.leave_out(&at, label, child);
            } else if at == "domain/commandline" {
                self.command_line(None, child);
            } else if !is_own_card && !is_own_metadata(child) {
                self.xml.push('\n');
                let taken = place == "domain/devices"
                    && child
                        .children()
                        .any(|boot| boot_order(boot).is_some_and(|order| orders.contains(&order)));
                if taken {
                    self.set_back.push(format!("the boot order of a {}", child.tag_name().name()));
                    self.copy_without(child, "boot");
                } else {
                    self.copy(child);
                }
            }
        }
        self.xml.push('\n');
    }

    /// Returns the index of the element in `left` that nixvm renders as `child`.
    fn counterpart(&self, at: &str, child: Node<'_, '_>, left: &[Node<'_, '_>]) -> Option<usize> {
        left.iter().position(|other| self.is_same(at, child, *other)).or_else(|| {
            // A card with another address on the network that nixvm gave the machine: the address was changed by hand.
            let record = self.record.filter(|_| at == "domain/devices/interface")?;
            let is_changed = |other: &Node<'_, '_>| {
                let source = xml::child(*other, "source");
                let network = source.and_then(|of| of.attribute("network").or(of.attribute("bridge")));
                other.has_tag_name("interface")
                    && other.attribute("type") == record.attribute("interface")
                    && network == record.attribute("source")
            };
            left.iter().position(is_changed)
        })
    }

    fn is_same(&self, at: &str, child: Node<'_, '_>, other: Node<'_, '_>) -> bool {
        let same = match at {
            "domain/devices/disk" => serial(other).is_some() && serial(other) == serial(child),
            "domain/devices/interface" => {
                card(other).is_some_and(|mac| card(child) == Some(mac) || self.cards.contains(&mac))
            }
            "domain/devices/controller" => kind(other) == kind(child),
            "domain/devices/channel" => {
                let [there, now] = [other, child].map(|channel| xml::child(channel, "target"));
                there.map(|target| target.attribute("name")) == now.map(|target| target.attribute("name"))
            }
            "domain/clock/timer" | "domain/os/firmware/feature" => {
                other.attribute("name") == child.attribute("name")
            }
            _ => true,
        };
        same && other.tag_name().name() == child.tag_name().name()
    }

    /// Records values that were changed by hand, and returns whether the element's text differs.
    fn compare(&mut self, place: &str, label: &str, ours: Node<'_, '_>, theirs: Node<'_, '_>) -> bool {
        for attribute in ours.attributes() {
            let (at, now) = (format!("{place}@{}", attribute.name()), attribute.value());
            let there = theirs.attribute(attribute.name());
            if let Some(there) = there.filter(|_| !REWORDED.contains(&at.as_str())) {
                self.tell(&at, &join(label, attribute.name()), there, now);
            }
        }
        let (there, now) = (text(theirs), text(ours));
        if there.is_empty() || now.is_empty() || there == now {
            return false;
        }
        if place != "domain/title" {
            self.tell(place, label, &there, &now);
        }
        true
    }

    /// Records a value that is set back, if it was changed by hand.
    fn tell(&mut self, at: &str, what: &str, there: &str, now: &str) {
        let by_hand = match RECORDED.iter().find(|(place, _)| *place == at) {
            Some((_, name)) => self.record.is_some_and(|record| record.attribute(*name) != Some(there)),
            None => true,
        };
        if there != now && by_hand {
            self.set_back.push(format!("{what} from `{there}` to `{now}`"));
        }
    }

    /// Leaves an element out, and records that if its value was changed by hand.
    fn leave_out(&mut self, at: &str, label: &str, theirs: Node<'_, '_>) {
        let memory = || theirs.parent().and_then(|domain| xml::child(domain, "memory"));
        let by_hand = at == "domain/os/boot"
            || at == "domain/currentMemory" && memory().is_some_and(|memory| text(memory) != text(theirs));
        if by_hand {
            self.set_back.push(join(label, theirs.tag_name().name()));
        }
    }

    /// Writes QEMU's own arguments: nixvm's as rendered, and those added by hand.
    fn command_line(&mut self, ours: Option<Node<'_, '_>>, theirs: Node<'_, '_>) {
        let own = ours.into_iter().flat_map(|ours| ours.children().filter(Node::is_element));
        let mut all: Vec<&str> = own.map(source).collect();
        let mut added = theirs.children().filter(Node::is_element).peekable();
        while let Some(argument) = added.next() {
            let of = added.peek().and_then(|next| next.attribute("value")).unwrap_or_default();
            let is_own = match argument.attribute("value") {
                Some("-netdev") => of.contains(",id=nixvm,"),
                Some("-device") => of.contains(",netdev=nixvm,"),
                _ => false,
            };
            if is_own {
                added.next();
            } else {
                all.push(source(argument));
            }
        }
        if !all.is_empty() {
            self.xml += &format!("\n<qemu:commandline>\n{}\n</qemu:commandline>", all.join("\n"));
        }
    }

    fn declare_namespaces(&mut self, ours: Node<'_, '_>, theirs: Node<'_, '_>) {
        let mut declared = Vec::new();
        for namespace in ours.namespaces().chain(theirs.namespaces()) {
            let new = namespace.name().filter(|prefix| *prefix != "xml" && !declared.contains(prefix));
            if let Some(prefix) = new {
                declared.push(prefix);
                self.attribute(&format!("xmlns:{prefix}"), namespace.uri());
            }
        }
    }

    fn attribute(&mut self, name: &str, value: &str) {
        self.xml += &format!(" {name}=\"{}\"", escape(value));
    }

    fn copy(&mut self, node: Node<'_, '_>) {
        self.xml += source(node);
    }

    fn copy_without(&mut self, node: Node<'_, '_>, name: &str) {
        let (input, mut from) = (node.document().input_text(), node.range().start);
        for child in node.children().filter(|child| child.has_tag_name(name)) {
            self.xml += &input[from..child.range().start];
            from = child.range().end;
        }
        self.xml += &input[from..node.range().end];
    }
}

/// Returns the label of a child in messages.
fn sublabel(label: &str, child: Node<'_, '_>) -> String {
    match child.tag_name().name() {
        "devices" => label.to_owned(),
        name => join(&join(label, name), serial(child).unwrap_or_default()),
    }
}

fn join(label: &str, name: &str) -> String {
    format!("{label} {name}").trim().to_owned()
}

#[cfg(test)]
mod tests;
