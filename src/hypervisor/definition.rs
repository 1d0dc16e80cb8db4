//! What a domain is made of, read back from its XML.
//!
//! libvirt rewrites a disk's source as it sees fit: from a volume in a pool to
//! a file when a snapshot or a merge changed it. So disks are known by their
//! serial numbers, and their images by the file's name alone.

use virt::sys;

use super::Seen;
use crate::error::{Explain, Failure, Result};
use crate::libvirt::Say;
use crate::libvirt::xml::{Element, Found, walk};

/// The serial number of the boot disk, as `templates/domain.xml.j2` has it.
pub const BOOT: &str = "nixvm-boot";

/// The serial number of the data disk.
pub const DATA: &str = "nixvm-data";

/// The serial number of the identity disk.
pub const IDENTITY: &str = "nixvm-identity";

/// The disks and firmware variables of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its disks, in their order.
    pub disks: Vec<Disk>,
    /// The absolute path, on the hypervisor, of the file with its firmware's variables.
    pub nvram: Option<String>,
}

/// A disk of a domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// The serial number that the guest sees.
    pub serial: Option<String>,
    /// libvirt's name of it: `vdb`.
    pub target: String,
    /// The file's name of the image it writes to; the volume's name in a pool of files.
    pub volume: Option<String>,
    /// The absolute path of that file; `None` where the definition names a volume.
    pub file: Option<String>,
    /// The pool in which the definition names the image as a volume; `None` where it names a file.
    pub pool: Option<String>,
    /// That name, and those of what it lies on as far as libvirt says: all of them while the machine runs.
    pub chain: Vec<String>,
}

impl Definition {
    /// Returns the disk of that serial number, if there is one.
    pub fn disk(&self, serial: &str) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.serial.as_deref() == Some(serial))
    }

    /// Returns the name of the volume of the disk of that serial number, if there is one.
    pub fn volume(&self, serial: &str) -> Option<&str> {
        self.disk(serial)?.volume.as_deref()
    }

    pub(super) fn parse(xml: &str) -> Result<Self> {
        let mut definition = Definition { disks: Vec::new(), nvram: None };
        walk(xml, &mut |place, found| match found {
            Found::Element(element) => definition.open(place, &element),
            Found::Text(text) => definition.fill(place, text),
        })
        .explain(|| Failure::bug("cannot read a domain's XML"))?;
        Ok(definition)
    }

    /// Takes what attributes say.
    fn open(&mut self, place: &str, element: &Element<'_>) {
        match place {
            "domain/devices/disk" => self.disks.push(Disk::default()),
            "domain/os/nvram/source" => self.nvram = element.attribute("file"),
            _ => {}
        }
        let Some(disk) = self.disks.last_mut() else { return };
        match place.strip_prefix("domain/devices/disk/") {
            Some("target") => disk.target = element.attribute("dev").unwrap_or_default(),
            Some(place) if is_chain(place) => {
                let file = || Some(element.attribute("file")?.rsplit('/').next()?.to_owned());
                let image = element.attribute("volume").or_else(file);
                if place == "source" {
                    disk.volume.clone_from(&image);
                    disk.pool = element.attribute("pool");
                    disk.file = element.attribute("file");
                }
                disk.chain.extend(image);
            }
            _ => {}
        }
    }

    fn fill(&mut self, place: &str, text: &str) {
        match (place, self.disks.last_mut()) {
            ("domain/devices/disk/serial", Some(disk)) => disk.serial.get_or_insert_default().push_str(text),
            ("domain/os/nvram", _) if !text.trim().is_empty() => {
                self.nvram.get_or_insert_default().push_str(text);
            }
            _ => {}
        }
    }
}

impl Seen {
    /// Returns the disks that the machine has at its next start.
    ///
    /// # Errors
    /// libvirt does not answer, or the domain is gone.
    pub fn disks(&self) -> Result<Definition> {
        self.read_definition(sys::VIR_DOMAIN_XML_INACTIVE)
    }

    /// Returns the disks that the machine has now; those of its next start where it is off.
    ///
    /// # Errors
    /// libvirt does not answer, or the domain is gone.
    pub fn live_disks(&self) -> Result<Definition> {
        self.read_definition(0)
    }

    fn read_definition(&self, flags: sys::virDomainXMLFlags) -> Result<Definition> {
        Definition::parse(&self.domain.xml_desc(flags).say(|| self.cannot("look at"))?)
    }

    /// Returns libvirt's name of the running machine's data disk.
    pub(super) fn data_target(&self) -> Result<String> {
        match self.live_disks()?.disk(DATA) {
            Some(disk) => Ok(disk.target.clone()),
            None => {
                let none = Failure::user(format!("it has no disk with the serial number `{DATA}`"));
                Err(self.cannot("find the data disk of").because(none).into())
            }
        }
    }
}

/// Returns whether that is the source of an image of the chain; a `mirror` has one too, which is not.
fn is_chain(place: &str) -> bool {
    place
        .strip_suffix("source")
        .is_some_and(|above| above.split_terminator('/').all(|name| name == "backingStore"))
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
