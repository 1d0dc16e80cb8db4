//! The disks and firmware variables that a domain's XML names.
//!
//! libvirt rewrites a disk's source as it sees fit: from a volume in a pool to
//! a file when a snapshot or a merge changed it. So disks are known by their
//! serial numbers, and their images by the file's name alone.

use roxmltree::Node;

use crate::error::{Explain, Failure, Result};
use crate::libvirt::xml::{all, at, child, escape, read, text};

/// The serial number of the boot disk, as `templates/domain.xml.j2` has it.
pub const BOOT: &str = "nixvm-boot";

pub const DATA: &str = "nixvm-data";

pub const IDENTITY: &str = "nixvm-identity";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    pub disks: Vec<Disk>,
    /// The absolute path, on the hypervisor, of the file with the firmware's variables.
    pub nvram: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// The serial number that the guest sees.
    pub serial: Option<String>,
    /// libvirt's name for the disk: `vdb`.
    pub target: String,
    /// The file name of the image that the disk writes to; in a pool of files this is the volume's name.
    pub volume: Option<String>,
    /// The absolute path of that file; `None` where the definition names a volume.
    pub file: Option<String>,
    /// The pool in which the definition names the image as a volume; `None` where it names a file.
    pub pool: Option<String>,
    /// The file names of that image and of its backing files, as far as libvirt says: all of them while the machine runs.
    pub chain: Vec<String>,
}

impl Disk {
    /// Returns the serial number if it is one of nixvm's; `None` for a disk that somebody added by hand.
    pub fn own_serial(&self) -> Option<&str> {
        self.serial.as_deref().filter(|serial| [BOOT, DATA, IDENTITY].contains(serial))
    }
}

impl Definition {
    pub fn disk(&self, serial: &str) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.serial.as_deref() == Some(serial))
    }

    pub fn volume(&self, serial: &str) -> Option<&str> {
        self.disk(serial)?.volume.as_deref()
    }

    pub(super) fn data(&self) -> Result<&Disk> {
        let none = || Failure::user(format!("it has no disk with the serial number `{DATA}`"));
        Ok(self.disk(DATA).ok_or_else(none)?)
    }

    /// Returns the XML that `element` makes of each disk's escaped target.
    pub(super) fn each(&self, element: impl Fn(&str) -> String) -> String {
        self.disks.iter().map(|disk| element(&escape(&disk.target))).collect()
    }

    pub(super) fn parse(xml: &str) -> Result<Self> {
        let definition = read(xml, |root| Definition {
            disks: all(root, "domain/devices/disk").into_iter().map(disk).collect(),
            nvram: at(root, "domain/os/nvram").and_then(nvram),
        });
        definition.explain(|| Failure::bug("cannot read a domain's XML"))
    }
}

fn nvram(node: Node<'_, '_>) -> Option<String> {
    match child(node, "source") {
        Some(source) => source.attribute("file").map(str::to_owned),
        None => Some(text(node)).filter(|path| !path.is_empty()),
    }
}

fn disk(node: Node<'_, '_>) -> Disk {
    let source = child(node, "source");
    let attribute = |name| source.and_then(|source| source.attribute(name)).map(str::to_owned);
    let levels = std::iter::successors(Some(node), |level| child(*level, "backingStore"));
    Disk {
        serial: child(node, "serial").map(text),
        target: child(node, "target")
            .and_then(|target| target.attribute("dev"))
            .unwrap_or_default()
            .to_owned(),
        volume: source.and_then(image),
        file: attribute("file"),
        pool: attribute("pool"),
        chain: levels.filter_map(|level| image(child(level, "source")?)).collect(),
    }
}

fn image(source: Node<'_, '_>) -> Option<String> {
    let file = || source.attribute("file")?.rsplit('/').next();
    source.attribute("volume").or_else(file).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As libvirt 9.0 gives it after a snapshot: one disk a file with a chain, one a volume, one without an image.
    const XML: &str = "<domain type='kvm'><os><loader>/x</loader><nvram template='/t'>/var/lib/a &amp; b_VARS.fd</nvram></os>
      <devices><emulator>/q</emulator>
        <disk type='volume' device='disk'>
          <source pool='nixvm' volume='web.boot-1.qcow2' index='3'/><target dev='vda' bus='virtio'/><serial>nixvm-boot</serial>
        </disk>
        <disk type='file' device='disk'>
          <source file='/pool/web.data-2.qcow2' index='4'/>
          <backingStore type='file' index='2'><format type='qcow2'/><source file='/pool/web.data.qcow2'/><backingStore/></backingStore>
          <mirror type='file' job='active-commit'><source file='/pool/mirror.qcow2'/></mirror>
          <target dev='vdb' bus='virtio'/><serial>nixvm-data</serial>
        </disk>
        <disk type='network' device='disk'><source protocol='nbd' name='x'><host name='h'/></source><target dev='sda'/></disk>
      </devices></domain>";

    #[test]
    fn disks_go_by_serial_number_whatever_form_their_source_has() {
        let definition = Definition::parse(XML).unwrap();
        let seen: Vec<_> = definition
            .disks
            .iter()
            .map(|disk| (disk.serial.as_deref(), disk.target.as_str(), disk.volume.as_deref()))
            .collect();
        assert_eq!(
            seen,
            [
                (Some(BOOT), "vda", Some("web.boot-1.qcow2")),
                (Some(DATA), "vdb", Some("web.data-2.qcow2")),
                (None, "sda", None),
            ]
        );
        assert_eq!(definition.disk(BOOT).unwrap().pool.as_deref(), Some("nixvm"));
        assert_eq!(definition.disk(DATA).unwrap().pool, None);
        assert_eq!(definition.disk(DATA).unwrap().file.as_deref(), Some("/pool/web.data-2.qcow2"));
        assert_eq!(definition.volume(DATA), Some("web.data-2.qcow2"));
        assert_eq!(definition.disk(DATA).unwrap().chain, ["web.data-2.qcow2", "web.data.qcow2"]);
        assert_eq!(definition.volume(IDENTITY), None);
        assert_eq!(definition.nvram.as_deref(), Some("/var/lib/a & b_VARS.fd"));
    }

    #[test]
    fn the_nvram_may_have_a_source_of_its_own_or_not_be_there() {
        let newer = XML
            .replace("<nvram template='/t'>", "<nvram type='file'><source file='")
            .replace("</nvram>", "'/></nvram>");
        assert_eq!(Definition::parse(&newer).unwrap().nvram.as_deref(), Some("/var/lib/a & b_VARS.fd"));
        let none = "<domain><os firmware='efi'/><devices/></domain>";
        assert_eq!(Definition::parse(none).unwrap(), Definition { disks: Vec::new(), nvram: None });
    }

    #[test]
    fn xml_that_is_none_is_an_error() {
        assert!(Definition::parse("<domain><os></domain>").is_err());
    }
}
