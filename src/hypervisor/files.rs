//! Parts of a definition from which AppArmor's profile would come out incomplete, rewritten.
//!
//! Earlier versions of nixvm defined disks as volumes. libvirt's AppArmor driver leaves volumes out of the profile that
//! confines QEMU (see [`DomainFiles`](crate::model::domain::DomainFiles)), and the machine cannot start.
//!
//! And when a running machine is switched to another layer, libvirt writes into the definition the one backing file that it
//! knew before, and not those further down. The driver takes that list for complete (libvirt 9.0, `get_files` in
//! `src/security/virt-aa-helper.c`), while it finds all backing files itself where the definition lists none.

use roxmltree::Node;

use super::Owned;
use super::domain::whole_definition;
use crate::error::{Explain, Result};
use crate::libvirt::Say;
use crate::libvirt::xml::{all, child, escape, read, text};

impl Owned {
    /// Rewrites the definition so that the disks with these serial numbers name files and no backing files: each the file at
    /// the path, or the one that it names already.
    ///
    /// Nothing else in the definition changes, and a running machine is not touched.
    pub fn name_files(&self, files: &[(String, Option<String>)]) -> Result<()> {
        let say = || self.cannot("name the disks as files in the definition of");
        let xml = with_files(&whole_definition(&self.domain).say(say)?, files).explain(say)?;
        let connection = self.domain.connect().say(say)?;
        connection.define_domain_xml(&xml).say(say).map(drop)
    }
}

fn with_files(xml: &str, files: &[(String, Option<String>)]) -> Result<String> {
    read(xml, |root| {
        let mut edits = Vec::new();
        for disk in all(root, "domain/devices/disk") {
            let serial = child(disk, "serial").map(text);
            let Some((_, path)) = files.iter().find(|(of, _)| Some(of) == serial.as_ref()) else { continue };
            if let Some(path) = path {
                edits.push(start_tag(disk, ("type", "file"), &["type"]));
                let replaced = ["pool", "volume", "mode", "file"];
                edits
                    .extend(child(disk, "source").map(|source| start_tag(source, ("file", path), &replaced)));
            }
            let below = disk.children().filter(|node| node.has_tag_name("backingStore"));
            edits.extend(below.map(|below| (below.range(), String::new())));
        }
        edits.sort_by_key(|(range, _)| range.start);
        let mut text = root.document().input_text().to_owned();
        for (range, new) in edits.into_iter().rev() {
            text.replace_range(range, &new);
        }
        text
    })
}

/// Returns where an element's start tag is, and the tag with `attribute` in the place of those in `replaced`.
fn start_tag(
    element: Node<'_, '_>,
    attribute: (&str, &str),
    replaced: &[&str],
) -> (std::ops::Range<usize>, String) {
    let all = element.range();
    let source = &element.document().input_text()[all.clone()];
    let from = element.attributes().next_back().map_or(0, |last| last.range().end - all.start);
    let end = source[from..].find('>').map_or(source.len(), |length| from + length);
    let close = if source[..end].ends_with('/') { "/" } else { "" };
    let kept = element.attributes().filter(|other| !replaced.contains(&other.name()));
    let mut tag = format!("<{}", element.tag_name().name());
    for (name, value) in std::iter::once(attribute).chain(kept.map(|kept| (kept.name(), kept.value()))) {
        tag += &format!(" {name}=\"{}\"", escape(value));
    }
    (all.start..all.start + end, tag + close)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disks_that_are_meant_change_and_nothing_else() {
        let xml = |boot: &str, data: &str| {
            format!(
                "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <title>it&apos;s &lt;mine&gt; &#xe9; &amp; é</title>
  <metadata><n:machine xmlns:n='urn:nixvm:domain:1' name=\"web\"><n:disk type='volume'/></n:machine></metadata>
  <devices>
    {boot}
      <driver name='qemu' type='qcow2'/>
      <serial>nixvm-boot</serial>
    </disk>
    <!-- a disk of the user's own -->
    <disk type='volume' device='cdrom'>
      <source pool='isos' volume='x.iso'/>
      <target dev='sda'/>
    </disk>
    {data}
      <target dev='vdb'/>
      <serial>nixvm-data</serial>
    </disk>
    <interface type='network'><source network='default'/></interface>
    <graphics type='vnc' passwd='a&quot;b'/>
  </devices>
  <qemu:commandline><qemu:arg value='a b'/></qemu:commandline>
</domain>
"
            )
        };
        let before = xml(
            "<disk type='volume' device='disk'>
      <source pool='p' volume='a' mode='host' startupPolicy='optional'><seclabel relabel='no'/></source>",
            "<disk type='volume' device='disk'>
      <source pool='p' volume='b'/>",
        );
        let files = [("nixvm-boot", "/p q/it's <a>"), ("nixvm-data", "/p/b")];
        let files = files.map(|(serial, path)| (serial.to_owned(), Some(path.to_owned())));
        let after = xml(
            "<disk type=\"file\" device=\"disk\">
      <source file=\"/p q/it&apos;s &lt;a&gt;\" startupPolicy=\"optional\"><seclabel relabel='no'/></source>",
            "<disk type=\"file\" device=\"disk\">
      <source file=\"/p/b\"/>",
        );
        assert_eq!(with_files(&before, &files).unwrap(), after);
        assert_eq!(with_files(&after, &files).unwrap(), after);
        assert_eq!(with_files(&before, &[]).unwrap(), before);
        let chain = "<backingStore type='file'><format type='qcow2'/><source file='/p/a'/><backingStore/></backingStore>";
        let [chained, empty] = [chain, "<backingStore/>"]
            .map(|below| before.replace("<target dev='vdb'/>", &format!("{below}<target dev='vdb'/>")));
        let data = [("nixvm-data".to_owned(), None)];
        assert_eq!(with_files(&chained, &data).unwrap(), before);
        assert_eq!(with_files(&empty, &data).unwrap(), before);
        assert_eq!(with_files(&chained, &[]).unwrap(), chained);
        assert!(with_files("<domain><devices></domain>", &files).is_err());
    }
}
