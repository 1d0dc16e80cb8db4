//! What AppArmor cannot make a whole profile of, taken out of a definition.
//!
//! nixvm once defined disks as volumes. libvirt's AppArmor driver leaves them out of the profile that confines QEMU (see
//! [`DomainFiles`](crate::model::domain::DomainFiles)), and the machine cannot start.
//!
//! And when a machine that runs goes on in another layer, libvirt writes what that lies on into the definition, as far as
//! the definition told before: one layer, and not what was below. The driver takes that for all there is (libvirt 9.0, `get_files` in
//! `src/security/virt-aa-helper.c`), while it finds everything itself where nothing is said.

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, Writer};
use virt::sys;

use super::Owned;
use super::definition::Definition;
use crate::error::{Explain, Failure, Result};
use crate::libvirt::Say;

impl Owned {
    /// Has the definition name the images of disks as files, and not what they lie on: of each disk with one of the serial
    /// numbers, the file at the path, or the one that it names already.
    ///
    /// Nothing else of the definition changes, and nothing at all of what runs.
    ///
    /// # Errors
    /// libvirt does not answer, or refuses the definition.
    pub fn name_files(&self, files: &[(String, Option<String>)]) -> Result<()> {
        let say = || self.cannot("name the disks as files in the definition of");
        // With what libvirt shows to nobody else, such as the password of a display: it is to stay.
        let flags = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE;
        let xml = with_files(&self.domain.xml_desc(flags).say(say)?, files).explain(say)?;
        let connection = self.domain.connect().say(say)?;
        connection.define_domain_xml(&xml).say(say).map(drop)
    }
}

/// Returns a domain's XML with the disks of those serial numbers on files at those paths; the rest as it is.
fn with_files(xml: &str, files: &[(String, Option<String>)]) -> Result<String> {
    let path_of = |serial: &Option<String>| files.iter().find(|(of, _)| Some(of) == serial.as_ref());
    let disks = Definition::parse(xml)?.disks;
    let mut paths = disks.iter().map(|disk| path_of(&disk.serial).map(|(_, path)| path.as_deref()));

    let mut rewrite = || -> quick_xml::Result<Vec<u8>> {
        let mut reader = Reader::from_str(xml);
        let mut writer = Writer::new(Vec::new());
        let (mut place, mut path, mut below) = (Vec::new(), None, false);
        loop {
            let event = reader.read_event()?;
            match &event {
                Event::Start(element) | Event::Empty(element) => {
                    place.push(element.name().as_ref().to_owned());
                    if place.iter().eq(["domain", "devices", "disk"].map(str::as_bytes)) {
                        path = paths.next().flatten();
                    }
                    if path.is_some() && place.len() == 4 && element.name().as_ref() == b"backingStore" {
                        below = true;
                    }
                }
                _ => {}
            }
            let event = match (path, event) {
                (Some(Some(path)), Event::Start(element)) => {
                    Event::Start(on_file(element, place.len(), path)?)
                }
                (Some(Some(path)), Event::Empty(element)) => {
                    Event::Empty(on_file(element, place.len(), path)?)
                }
                (_, event) => event,
            };
            let wanted = !below;
            match &event {
                Event::Eof => return Ok(writer.into_inner()),
                Event::End(_) | Event::Empty(_) => {
                    place.pop();
                    path = path.filter(|_| place.len() > 2);
                    below &= place.len() > 3;
                }
                _ => {}
            }
            if wanted {
                writer.write_event(event)?;
            }
        }
    };
    let bytes = rewrite().explain(|| Failure::bug("cannot read a domain's XML"))?;
    Ok(String::from_utf8(bytes)?)
}

/// Returns an element of a disk, so many levels deep in the document, as it is where the image is the file at `path`.
fn on_file<'a>(element: BytesStart<'a>, depth: usize, path: &str) -> quick_xml::Result<BytesStart<'a>> {
    let name = String::from_utf8_lossy(element.name().as_ref()).into_owned();
    let (add, drop): (_, &[&[u8]]) = match (depth, name.as_str()) {
        (3, "disk") => (("type", "file"), &[b"type"]),
        (4, "source") => (("file", path), &[b"pool", b"volume", b"mode", b"file"]),
        _ => return Ok(element),
    };
    let mut changed = BytesStart::new(name);
    changed.push_attribute(add);
    for attribute in element.attributes() {
        let attribute = attribute?;
        if !drop.contains(&attribute.key.as_ref()) {
            let key = String::from_utf8_lossy(attribute.key.as_ref());
            changed.push_attribute((key.as_ref(), attribute.unescape_value()?.as_ref()));
        }
    }
    Ok(changed)
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
