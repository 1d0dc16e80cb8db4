//! The XML of volumes: what libvirt is given, and what it answers.
//!
//! Not a template of `render`: every value is a name that is checked here, or a number.

use crate::error::{Failure, Result};
use crate::libvirt::xml::text_at;
use crate::model::volume::{VolumeFormat, VolumeSpec};

/// Returns the XML of a volume that takes no space until it is written, and that only its owner reads: it may hold secrets.
///
/// qcow2 is of version 3: QEMU keeps no bitmap for a backup in an older one, and libvirt makes those if nothing is said.
/// What it lies on is named relative to it, so that a pool can be moved.
///
/// # Errors
/// A name is none that a volume of nixvm's can have.
pub fn volume_xml(spec: &VolumeSpec) -> Result<String> {
    let VolumeSpec { name, capacity, format, backing } = spec;
    let plain = |name: &String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !name.is_empty() && name.chars().all(plain)
    };
    if let Some(bad) = [Some(name), backing.as_ref()].into_iter().flatten().find(|name| !plain(name)) {
        return Err(Failure::bug(format!("`{bad}` is no volume's name")).into());
    }
    let compat = match format {
        VolumeFormat::Qcow2 => "\n    <compat>1.1</compat>",
        VolumeFormat::Raw => "",
    };
    let backing = match backing {
        Some(on) => format!(
            "\n  <backingStore>\n    <path>{on}</path>\n    <format type=\"qcow2\"/>\n  </backingStore>"
        ),
        None => String::new(),
    };
    Ok(format!(
        r#"<volume>
  <name>{name}</name>
  <capacity unit="bytes">{}</capacity>
  <allocation unit="bytes">0</allocation>
  <target>
    <format type="{}"/>{compat}
    <permissions>
      <mode>0600</mode>
    </permissions>
  </target>{backing}
</volume>
"#,
        capacity.bytes(),
        format.as_str()
    ))
}

/// Returns the absolute path of what a volume lies on, or its name beside the volume; `None` where it stands alone.
pub(super) fn backing(xml: &str) -> Option<String> {
    text_at(xml, "volume/backingStore/path").filter(|path| !path.is_empty())
}

/// Returns when a volume was last written, in seconds of its host's clock.
pub(super) fn written(xml: &str) -> Option<u64> {
    text_at(xml, "volume/target/timestamps/mtime")?.split('.').next()?.parse().ok()
}

/// Returns the length of a volume's file, in bytes.
pub(super) fn length(xml: &str) -> Option<u64> {
    text_at(xml, "volume/physical")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Size;

    #[test]
    fn the_time_of_the_last_write_and_the_backing_file_are_read() {
        let xml = "<volume type='file'><name>mtime</name><target><path>/p/a</path><timestamps><atime>1.5</atime>\
                   <mtime>1795392576.123456789</mtime><ctime>3</ctime></timestamps></target>\
                   <backingStore><path>/p/b &amp; c</path><timestamps><mtime>7</mtime></timestamps></backingStore></volume>";
        assert_eq!(written(xml), Some(1_795_392_576));
        assert_eq!(backing(xml).as_deref(), Some("/p/b & c"));
        let alone = "<volume><name>x</name></volume>";
        assert_eq!((written(alone), backing(alone)), (None, None));
    }

    #[test]
    fn a_name_cannot_leave_its_element_or_the_pool() {
        let spec = |name: &str, backing: Option<&str>| VolumeSpec {
            name: name.to_owned(),
            capacity: Size::from_bytes(1),
            format: VolumeFormat::Raw,
            backing: backing.map(str::to_owned),
        };
        assert!(
            volume_xml(&spec("web.boot-1.qcow2", None)).unwrap().contains("<name>web.boot-1.qcow2</name>")
        );
        for bad in ["", "a/b", "a<b", "a b", "a&b", "\u{e4}"] {
            assert!(volume_xml(&spec(bad, None)).is_err(), "{bad}");
            assert!(volume_xml(&spec("a", Some(bad))).is_err(), "{bad}");
        }
    }
}
