//! The XML of volumes: what libvirt is given, and what it answers.

use crate::error::{Failure, Result};
use crate::libvirt::xml::{Found, text_at, walk};

/// Returns a raw, empty volume of that length, readable by its owner alone: a data volume holds secrets.
///
/// Raw also where qcow2 is meant: libvirt opens a raw volume's file with its mode, and has `qemu-img` make any other,
/// which everybody can read until that is done.
///
/// # Errors
/// The name is none that a volume of nixvm's can have.
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

/// Checks that the name cannot leave the pool, nor its place in XML or in an option of `qemu-img`.
pub(super) fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(Failure::bug(format!("`{name}` is no volume's name")).into());
    }
    Ok(())
}

/// Returns the absolute path of what a volume lies on, or its name beside the volume; `None` where it stands alone.
pub(super) fn backing(xml: &str) -> Option<String> {
    text_at(xml, "volume/backingStore/path").filter(|path| !path.is_empty())
}

/// Returns the format that libvirt takes a volume for: `raw`, `qcow2`.
pub(super) fn format(xml: &str) -> Option<String> {
    // The name is an attribute, which `text_at` does not give.
    let mut format = None;
    let read = walk(xml, &mut |place, found| {
        if let ("volume/target/format", Found::Element(element)) = (place, found) {
            format = element.attribute("type");
        }
    });
    read.ok().and(format)
}

/// Returns when a volume was last written, in seconds of its host's clock.
pub(super) fn written(xml: &str) -> Option<u64> {
    text_at(xml, "volume/target/timestamps/mtime")?.split('.').next()?.parse().ok()
}

/// Returns what changes whenever a volume's file is written: when that was last done, by the host's clock and to the
/// nanosecond, and the length.
///
/// The second time, of the last change to the file's owner or times, cannot be set back.
pub(super) fn stamp(xml: &str) -> Option<[String; 3]> {
    let [mtime, ctime] =
        ["mtime", "ctime"].map(|time| text_at(xml, &format!("volume/target/timestamps/{time}")));
    Some([mtime?, ctime?, text_at(xml, "volume/physical")?])
}

/// Returns the length of a volume's file, in bytes.
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
