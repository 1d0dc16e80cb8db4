//! The XML of volumes: what libvirt is given, and what it answers.

use crate::error::{Failure, Result};
use crate::libvirt::xml::{at, read, text, text_at};

/// Returns the XML of an empty raw volume of that length, readable by its owner alone: a data volume holds secrets.
///
/// qcow2 volumes are made as raw ones too: libvirt creates a raw file with its mode, but leaves other formats to `qemu-img`,
/// whose file everybody can read until it is done.
pub(super) fn volume_xml(name: &str, length: u64) -> Result<String> {
    check_name(name)?;
    Ok(format!(
        "<volume>
  <name>{name}</name>
  <capacity unit='bytes'>{length}</capacity>
  <allocation unit='bytes'>0</allocation>
  <target>
    <format type='raw'/>
    <permissions><mode>0600</mode></permissions>
  </target>
</volume>
"
    ))
}

/// Checks that the name cannot lead out of the pool, and has no character special to XML or to the options of `qemu-img`.
pub(super) fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(Failure::bug(format!("`{name}` is no volume's name")).into());
    }
    Ok(())
}

/// Returns a volume's backing file: its absolute path, or its name in the same folder.
pub(super) fn backing(xml: &str) -> Option<String> {
    text_at(xml, "volume/backingStore/path").filter(|path| !path.is_empty())
}

/// Returns the format that libvirt takes a volume for: `raw`, `qcow2`.
pub(super) fn format(xml: &str) -> Option<String> {
    let format = read(xml, |root| at(root, "volume/target/format")?.attribute("type").map(str::to_owned));
    format.ok().flatten()
}

/// Returns when a volume was last written, in seconds of its host's clock.
pub(super) fn written(xml: &str) -> Option<u64> {
    text_at(xml, "volume/target/timestamps/mtime")?.split('.').next()?.parse().ok()
}

/// Returns values of which one changes whenever a volume's file is written: the times of the last write and of the last
/// change to the inode (mtime and ctime, by the host's clock and to the nanosecond), and the length.
///
/// mtime can be set back by hand; ctime cannot.
pub(super) fn stamp(xml: &str) -> Option<[String; 3]> {
    let places = ["target/timestamps/mtime", "target/timestamps/ctime", "physical"];
    let values = read(xml, |root| places.map(|place| at(root, &format!("volume/{place}")).map(text)));
    let [mtime, ctime, length] = values.ok()?;
    Some([mtime?, ctime?, length?])
}

pub(super) fn length(xml: &str) -> Option<u64> {
    text_at(xml, "volume/physical")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_last_write_and_the_backing_file_are_read() {
        let xml = "<volume type='file'><name>mtime</name><target><path>/p/a</path><timestamps><atime>1.5</atime>\
                   <mtime>1795392576.123456789</mtime><ctime>3</ctime></timestamps></target>\
                   <backingStore><path>/p/b &amp; c</path><timestamps><mtime>7</mtime></timestamps></backingStore></volume>";
        assert_eq!(written(xml), Some(1_795_392_576));
        assert_eq!(backing(xml).as_deref(), Some("/p/b & c"));
        assert_eq!(stamp(xml), None, "it has no length");
        let long = xml.replace("<target>", "<physical unit='bytes'>7</physical><target>");
        assert_eq!(stamp(&long), Some(["1795392576.123456789", "3", "7"].map(str::to_owned)));
        let alone = "<volume><name>x</name></volume>";
        assert_eq!((written(alone), backing(alone)), (None, None));
    }

    #[test]
    fn a_name_cannot_leave_its_element_or_the_pool() {
        assert!(volume_xml("web.boot-1.qcow2", 1).unwrap().contains("<name>web.boot-1.qcow2</name>"));
        for name in ["", "a/b", "a<b", "a b", "a&b", "a,b", "\u{e4}"] {
            assert!(volume_xml(name, 1).is_err(), "{name}");
        }
    }
}
