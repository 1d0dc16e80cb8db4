//! Which domains of the host need a volume.
//!
//! A deletion asks libvirt itself, right before it deletes: a journal, a stem or a name only tells what a volume once was, and
//! another workspace may have defined a machine on it since.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use roxmltree::Node;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::sys;

use super::Pool;
use crate::error::{Failure, Result};
use crate::libvirt::xml::{all, at, read, text, text_at};
use crate::libvirt::{Answer, Say};
use crate::model::domain::COPIER;
use crate::model::volume::{self, VolumeStem, is_base_volume};

/// The volumes that one definition of a domain needs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    /// The stem of the volumes of nixvm's machine: no disk names its older generations and snapshots, but they are needed.
    stem: Option<VolumeStem>,
    files: BTreeSet<String>,
    /// Volumes in the definition, each with its pool.
    volumes: BTreeSet<(String, String)>,
}

impl Needs {
    /// Reads a domain's XML. Of nixvm's element only the stem is read, so that the volumes of a machine of a later nixvm,
    /// whose element this one may not understand, are protected too.
    fn parse(xml: &str) -> Result<Self> {
        read(xml, |root| {
            let values =
                |name| root.descendants().filter_map(move |node| node.attribute(name)).map(str::to_owned);
            let volume = |node: Node<'_, '_>| {
                Some((node.attribute("pool")?.to_owned(), node.attribute("volume")?.to_owned()))
            };
            let nvram = at(root, "domain/os/nvram").map(text).filter(|path| !path.is_empty());
            let stems = all(root, "domain/metadata/machine");
            Needs {
                stem: stems.iter().find_map(|machine| machine.attribute("volumes")?.parse().ok()),
                files: values("file").chain(nvram).collect(),
                volumes: root.descendants().filter_map(volume).collect(),
            }
        })
    }

    /// Returns those of its volumes that are in the pool `name`.
    fn named(&self, name: &str, folder: &Folder) -> BTreeSet<String> {
        let files = self.files.iter().filter_map(|path| folder.volume(path));
        let volumes = self.volumes.iter().filter(|(pool, _)| pool == name).map(|(_, volume)| volume.clone());
        files.chain(volumes).collect()
    }
}

/// A pool's folder; a definition may name it by another path.
struct Folder {
    path: PathBuf,
    real: Option<PathBuf>,
}

impl Folder {
    fn new(path: String) -> Self {
        Folder { real: fs::canonicalize(&path).ok(), path: path.into() }
    }

    /// Returns the name of the volume whose file is at that path; `None` if that is in another folder.
    fn volume(&self, path: &str) -> Option<String> {
        let path = Path::new(path);
        let parent = path.parent()?;
        let here = parent == self.path || self.real.is_some() && fs::canonicalize(parent).ok() == self.real;
        here.then(|| path.file_name()?.to_str().map(str::to_owned)).flatten()
    }
}

/// Returns the name of the pool, started or not, whose folder contains the file at that absolute path.
pub fn pool_with(connection: &Connect, file: &str) -> Result<Option<String>> {
    let say = || Failure::user(format!("cannot tell the pool of `{file}`"));
    for pool in connection.list_all_storage_pools(0).say(say)? {
        let Some(xml) = pool.xml_desc(0).unless(ErrorNumber::NoStoragePool).say(say)? else { continue };
        let path = text_at(&xml, "pool/target/path").unwrap_or_default();
        if !path.is_empty() && Folder::new(path).volume(file).is_some() {
            return pool.name().map(Some).say(say);
        }
    }
    Ok(None)
}

fn stem_of(volume: &str) -> Option<VolumeStem> {
    volume::parse(volume).map(|(stem, _)| stem)
}

impl Pool {
    /// Returns the name of a domain that needs the volume, except the domain of the pool's own machine.
    ///
    /// A domain needs the files that its live and its next definition name, and their backing files. A machine of nixvm also
    /// needs all volumes with its stem.
    ///
    /// # Errors
    /// libvirt does not answer, or a domain's XML cannot be read: the volume must not be taken for unused then.
    pub fn user_of(&self, volume: &str) -> Result<Option<String>> {
        let say = || self.cannot("tell who uses", volume);
        let folder = Folder::new(self.path()?);
        let mut others = Vec::new();
        for domain in self.connection.list_all_domains(0).say(say)? {
            let seen = self.needs_of(&domain).unless(ErrorNumber::NoDomain).say(say)?;
            for (name, xml) in seen.into_iter().flatten() {
                let needs = Needs::parse(&xml)?;
                let named = needs.named(self.name(), &folder);
                others.push((name, needs.stem, named));
            }
        }
        // Volumes of other stems lie on this one only if it is a base image, or if somebody arranged that by hand.
        let may_lie_on_it = |stem: &Option<VolumeStem>, named: &String| {
            stem_of(named) != *stem && !is_base_volume(named) && named != volume
        };
        let by_hand = others.iter().any(|(_, stem, named)| named.iter().any(|n| may_lie_on_it(stem, n)));
        let mut affected: BTreeSet<String> = [volume.to_owned()].into();
        // Nothing lies on a volume without a disk: a start rewrites the identity, and must not wait for a refresh of the pool.
        if (by_hand || stem_of(volume).is_none()) && volume::may_be_qcow2(volume) {
            affected.extend(self.lying_on(volume)?);
        }
        let stems: BTreeSet<VolumeStem> = affected.iter().filter_map(|volume| stem_of(volume)).collect();
        let needs = |(_, stem, named): &&(String, Option<VolumeStem>, BTreeSet<String>)| {
            stem.as_ref().is_some_and(|stem| stems.contains(stem)) || !named.is_disjoint(&affected)
        };
        Ok(others.iter().find(needs).map(|(name, _, _)| name.clone()))
    }

    /// Checks that no domain except that of the pool's own machine needs the volume.
    pub fn require_unused(&self, volume: &str) -> Result<()> {
        let Some(user) = self.user_of(volume)? else { return Ok(()) };
        let failure = self.cannot("delete", volume);
        Err(failure
            .because(Failure::user(format!("the domain `{user}` needs it")))
            .hint(format!(
                "`virsh dumpxml {user}` shows what it needs; nothing that a domain needs is deleted"
            ))
            .into())
    }

    /// Returns a domain's next and live definitions, with its name; none for the pool's own machine.
    fn needs_of(&self, domain: &Domain) -> Answer<Vec<(String, String)>> {
        let name = domain.name()?;
        let own = self.machine.as_ref().is_some_and(|(machine, id)| match id {
            Some(id) => domain.uuid().is_ok_and(|uuid| uuid.to_string() == id.to_uuid()),
            None => name == machine.as_str(),
        });
        if own {
            return Ok(Vec::new());
        }
        // A copier of a nixvm that was just killed: it ends with that one's connection, and only reads.
        if name.starts_with(COPIER) && !domain.is_persistent()? {
            return Ok(Vec::new());
        }
        let mut definitions = vec![(name.clone(), domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?)];
        if domain.is_active()? {
            definitions.push((name, domain.xml_desc(0)?));
        }
        Ok(definitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;
    use crate::model::MachineId;
    use crate::model::record::METADATA_NAMESPACE;
    use virt::storage_vol::StorageVol;

    fn domain(connection: &Connect, name: &str, id: MachineId, inside: &str) -> Domain {
        let xml = format!(
            "<domain type='test'><name>{name}</name><uuid>{}</uuid><memory>131072</memory><os><type>hvm</type></os>{inside}</domain>",
            id.to_uuid()
        );
        connection.define_domain_xml(&xml).unwrap()
    }

    fn disk(source: &str) -> String {
        format!("<devices><disk type='file' device='disk'>{source}<target dev='vda'/></disk></devices>")
    }

    #[test]
    fn nothing_that_another_domain_needs_is_deleted() {
        let connection = crate::libvirt::connect("test:///default").unwrap();
        let xml = "<pool type='dir'><name>t-users</name><target><path>/t-users</path></target></pool>";
        let pool = Pool::ensure(&connection, "t-users", xml).unwrap();
        for name in ["t-web.boot-1.qcow2", "t-web.data-1.qcow2", "t-x.data-1.qcow2", "t-y.data-1.qcow2"] {
            let xml = format!("<volume><name>{name}</name><capacity>4096</capacity></volume>");
            StorageVol::create_xml(&pool.pool, &xml, 0).unwrap();
        }
        // Renamed: the volumes are still called as the machine was. And of a later nixvm, whose words are not known.
        let shop = MachineId::generate();
        let ours = format!(
            "<metadata><n:machine xmlns:n='{METADATA_NAMESPACE}' name='t-shop' volumes='t-web' later='1'/></metadata>"
        );
        let _shop = domain(&connection, "t-shop", shop, &ours);
        let file = disk("<source file='/t-users/t-x.data-1.qcow2'/>");
        let _foreign = domain(&connection, "t-foreign", MachineId::generate(), &file);
        let elsewhere = disk("<source file='/elsewhere/t-y.data-1.qcow2'/>");
        let _elsewhere = domain(&connection, "t-elsewhere", MachineId::generate(), &elsewhere);

        for (volume, user) in [
            ("t-web.boot-1.qcow2", "t-shop"),
            ("t-web.data-1.qcow2", "t-shop"),
            ("t-x.data-1.qcow2", "t-foreign"),
        ] {
            let report = Report::of(&pool.delete(volume).unwrap_err());
            assert_eq!(report.causes, [format!("the domain `{user}` needs it")]);
            assert!(pool.clear(volume).is_err() && pool.usage(volume).unwrap().is_some());
        }
        assert!(pool.delete("t-y.data-1.qcow2").unwrap(), "a file of the same name elsewhere");

        let with = |file: &str| pool_with(&connection, file).unwrap();
        assert_eq!(with("/t-users/t-web.data-1.qcow2").as_deref(), Some("t-users"));
        assert_eq!(with("/t-users/below/t-web.data-1.qcow2"), None);

        let to_be = pool.of_machine("t-web".parse().unwrap(), None);
        assert!(to_be.delete("t-web.boot-1.qcow2").is_err(), "its volumes are another's by now");
        let to_be = to_be.of_machine("t-shop".parse().unwrap(), None);
        assert_eq!(
            to_be.user_of("t-web.boot-1.qcow2").unwrap(),
            None,
            "it was defined since the pool was opened"
        );
        let own = to_be.of_machine("t-shop".parse().unwrap(), Some(shop));
        assert!(own.delete("t-web.boot-1.qcow2").unwrap());
        assert!(own.delete("t-x.data-1.qcow2").is_err());
    }

    #[test]
    fn whatever_a_definition_names_is_read() {
        let needs = Needs::parse(
            "<domain><metadata><a:machine xmlns:a='urn:nixvm:domain:1' volumes='web_2'/></metadata>\
             <os><nvram template='/t'>/p/v &amp; w.fd</nvram></os><devices>\
             <disk><source pool='p' volume='v'/></disk>\
             <disk><source file='/p/a'/><backingStore><source file='/p/b'/><backingStore/></backingStore></disk>\
             <serial><log file='/p/s'/></serial></devices></domain>",
        )
        .unwrap();
        assert_eq!(needs.stem, Some("web_2".parse().unwrap()));
        assert_eq!(needs.files, ["/p/a", "/p/b", "/p/s", "/p/v & w.fd"].map(str::to_owned).into());
        assert_eq!(needs.volumes, [("p".to_owned(), "v".to_owned())].into());
        let folder = Folder::new("/p".into());
        let named = needs.named("p", &folder);
        assert_eq!(named, ["a", "b", "s", "v", "v & w.fd"].map(str::to_owned).into());
    }
}
