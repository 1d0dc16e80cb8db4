//! Domains as they are: found, listed and defined.

use std::collections::HashMap;

use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::sys;

use super::{Hypervisor, edits, metadata};
use crate::error::{Failure, Result};
use crate::libvirt::Say;
use crate::libvirt::xml::{Found, text_at, walk};
use crate::model::domain::DomainState;
use crate::model::record::{METADATA_NAMESPACE, Metadata};
use crate::model::{MacAddress, MachineId, MachineName, identity_of_its_own};

/// A domain as libvirt has it now, nixvm's or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Its name; that of a foreign domain can be any text.
    pub name: String,
    /// Its UUID.
    pub id: MachineId,
    /// Whether it runs.
    pub state: DomainState,
    /// What nixvm wrote into it; `None` for a domain that is not nixvm's. While it runs, this is what it runs.
    pub metadata: Option<Metadata>,
}

impl Hypervisor {
    /// Returns every domain, sorted by name.
    ///
    /// Four calls, and one for each domain: libvirt hands out metadata only one by one.
    ///
    /// # Errors
    /// libvirt does not answer.
    pub fn domains(&self) -> Result<Vec<Observed>> {
        let list = || -> std::result::Result<Vec<Observed>, Error> {
            let states = self.states()?;
            let mut domains = Vec::new();
            for domain in self.connection().list_all_domains(0)? {
                let known = states.get(&domain.uuid()?.into_bytes()).copied();
                // One that was undefined since the list was made is no error.
                domains.extend(observe(&domain, known).unless(ErrorNumber::NoDomain)?);
            }
            domains.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(domains)
        };
        list().say(|| Failure::user("cannot list libvirt's domains"))
    }

    /// Returns what nixvm wrote into every domain of its own: all that it has at its next start, and what it runs.
    ///
    /// For whoever deletes what no domain refers to: here a domain that cannot be read is not somebody else's.
    ///
    /// # Errors
    /// A domain carries nixvm's element, and this nixvm cannot read it; libvirt does not answer.
    pub fn records(&self) -> Result<Vec<Metadata>> {
        let say = || Failure::user("cannot read what all domains refer to");
        let mut records = Vec::new();
        for domain in self.connection().list_all_domains(0).say(say)? {
            // One that was undefined, or that ended, since the list was made refers to nothing any more.
            let Some(elements) = elements(&domain).unless(ErrorNumber::NoDomain).say(say)? else { continue };
            let read = |element: Option<String>| -> Result<Option<Metadata>> {
                let unreadable = || {
                    let name = domain.name().unwrap_or_default();
                    say()
                        .because(Failure::user(format!(
                            "this nixvm cannot read what stands in the domain `{name}`"
                        )))
                        .hint(format!(
                            "look at it with `virsh dumpxml {name}`; nothing is deleted until it is fixed"
                        ))
                };
                element.map(|element| Ok(metadata::parse(&element).ok_or_else(unreadable)?)).transpose()
            };
            let runs = read(elements.now)?;
            if !elements.is_persistent {
                records.extend(runs);
                continue;
            }
            records.extend(read(elements.next)?);
            // What a guest had recorded when it was started is out of date, but for what it was started on.
            records.extend(
                runs.map(|runs| Metadata { generations: runs.generations.retain(|_| false), ..runs }),
            );
        }
        Ok(records)
    }

    /// Returns the state of every domain that is in one of the usual states.
    fn states(&self) -> std::result::Result<HashMap<[u8; 16], DomainState>, Error> {
        let mut states = HashMap::new();
        for (state, flag) in [
            (DomainState::Running, sys::VIR_CONNECT_LIST_DOMAINS_RUNNING),
            (DomainState::Paused, sys::VIR_CONNECT_LIST_DOMAINS_PAUSED),
            (DomainState::Shutoff, sys::VIR_CONNECT_LIST_DOMAINS_SHUTOFF),
            // Of those that are off.
            (
                DomainState::Saved,
                sys::VIR_CONNECT_LIST_DOMAINS_SHUTOFF | sys::VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE,
            ),
        ] {
            for domain in self.connection().list_all_domains(flag)? {
                states.insert(domain.uuid()?.into_bytes(), state);
            }
        }
        Ok(states)
    }

    /// Returns the domain of that name, nixvm's or not.
    ///
    /// # Errors
    /// libvirt does not answer.
    pub fn find(&self, name: &MachineName) -> Result<Option<Observed>> {
        self.observed(self.connection().lookup_domain_by_name(name.as_str()), name)
    }

    /// Returns the domain of that UUID, nixvm's or not.
    ///
    /// # Errors
    /// libvirt does not answer.
    pub fn find_id(&self, id: MachineId) -> Result<Option<Observed>> {
        self.observed(self.connection().lookup_domain_by_uuid_string(&id.to_uuid()), id)
    }

    fn observed(
        &self,
        found: std::result::Result<Domain, Error>,
        what: impl std::fmt::Display,
    ) -> Result<Option<Observed>> {
        found
            .and_then(|domain| observe(&domain, None))
            .unless(ErrorNumber::NoDomain)
            .say(|| Failure::user(format!("cannot ask libvirt for the domain `{what}`")))
    }

    /// Defines the domain that `xml` describes, or changes its definition; a running guest goes on as it is.
    ///
    /// `name` and `id` are those in `xml`. What somebody added to the definition by hand stays. Returns the values that were
    /// changed by hand and are now as `xml` has them.
    ///
    /// # Errors
    /// The name or the UUID is that of another domain, or libvirt refuses the XML.
    pub fn define(&self, name: &MachineName, id: MachineId, xml: &str) -> Result<Vec<String>> {
        self.check_free(name, id)?;
        let say = || Failure::user(format!("libvirt refuses the domain of `{name}`"));
        // With what libvirt shows to nobody else, such as the password of a display: it is to stay.
        let flags = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE;
        let found = self.connection().lookup_domain_by_name(name.as_str());
        let define =
            |xml: &str| self.connection().define_domain_xml_flags(xml, sys::VIR_DOMAIN_DEFINE_VALIDATE);
        let Some(domain) = found.unless(ErrorNumber::NoDomain).say(say)? else {
            define(xml).say(say)?;
            return Ok(Vec::new());
        };
        let present = domain.xml_desc(flags).say(say)?;
        let edits::Merged { xml, mut set_back } = edits::merge(xml, &present)?;
        let kept = "what somebody added to the definition by hand is kept, and may not fit any more";
        let domain =
            define(&xml).say(|| say().hint(format!("{kept}: `virsh -c {} edit {name}`", self.uri())))?;
        let emulator = |xml: &str| text_at(xml, "domain/devices/emulator").unwrap_or_default();
        let (there, now) = (emulator(&present), emulator(&domain.xml_desc(flags).say(say)?));
        if there != now {
            set_back.push(format!("emulator from `{there}` to `{now}`"));
        }
        Ok(set_back)
    }

    /// Checks that a domain of that name and UUID can be defined without touching another one.
    ///
    /// # Errors
    /// A domain that is not nixvm's has the name, or another domain the name or the UUID.
    pub fn check_free(&self, name: &MachineName, id: MachineId) -> Result<()> {
        if let Some(other) = self.find(name)? {
            if other.metadata.is_none() {
                return Err(foreign(name).into());
            }
            if other.id != id {
                let of = other.metadata.map(|m| m.workspace).unwrap_or_default();
                return Err(Failure::user(format!(
                    "libvirt has another machine `{name}`, of the workspace `{of}`"
                ))
                .hint("give this machine another name, or destroy the other one there")
                .into());
            }
        }
        match self.find_id(id)? {
            Some(other) if other.name != name.as_str() => Err(Failure::user(format!(
                "the UUID {} is in use by the domain `{}`",
                id.to_uuid(),
                other.name
            ))
            .hint(identity_of_its_own(name))
            .into()),
            _ => Ok(()),
        }
    }

    /// Checks that no domain but that of this UUID has a network card with that address, for now or at its next start.
    ///
    /// # Errors
    /// One has, or libvirt does not answer.
    pub fn check_mac(&self, name: &MachineName, id: MachineId, mac: MacAddress) -> Result<()> {
        let say = || Failure::user("cannot ask libvirt whose a MAC address is");
        let mac = mac.to_string();
        for domain in self.connection().list_all_domains(0).say(say)? {
            let other = || -> std::result::Result<(String, String, String), Error> {
                Ok((domain.uuid()?.to_string(), domain.name()?, domain.xml_desc(0)?))
            };
            let Some((uuid, other, xml)) = other().unless(ErrorNumber::NoDomain).say(say)? else { continue };
            let mut has = false;
            walk(&xml, &mut |place, found| {
                if let (true, Found::Element(element)) = (place.ends_with("/interface/mac"), found) {
                    has |= element.attribute("address").is_some_and(|there| there.eq_ignore_ascii_case(&mac));
                }
            })?;
            if has && uuid != id.to_uuid() {
                return Err(Failure::user(format!(
                    "the MAC address {mac} is in use by the domain `{other}`"
                ))
                .hint(identity_of_its_own(name))
                .into());
            }
        }
        Ok(())
    }
}

/// Returns the refusal of a domain without nixvm's metadata.
pub(super) fn foreign(name: &MachineName) -> Failure {
    Failure::user(format!("the domain `{name}` is not nixvm's"))
        .hint("nixvm touches no domain that it did not make; give the machine another name, or remove the domain with the tool that made it")
}

/// Returns the domain as it is now; in the state `known`, where there is one.
pub(super) fn observe(domain: &Domain, known: Option<DomainState>) -> std::result::Result<Observed, Error> {
    let bytes = domain.uuid()?.into_bytes();
    Ok(Observed {
        name: domain.name()?,
        id: MachineId::from_bytes(bytes).ok_or_else(Error::last_error)?,
        state: known.map_or_else(|| state(domain), Ok)?,
        metadata: metadata_of(domain, sys::VIR_DOMAIN_AFFECT_CURRENT)?,
    })
}

/// Returns the domain's state.
///
/// By `virDomainGetInfo`: `virt` 0.5's `Domain::state` drops libvirt's error.
pub(super) fn state(domain: &Domain) -> std::result::Result<DomainState, Error> {
    use virt::domain::DomainState as Raw;
    Ok(match domain.info()?.state.known() {
        Some(Raw::Running) => DomainState::Running,
        Some(Raw::Blocked) => DomainState::Blocked,
        Some(Raw::Paused) => DomainState::Paused,
        Some(Raw::Shutdown) => DomainState::Shutdown,
        Some(Raw::Shutoff) if domain.has_managed_save(0)? => DomainState::Saved,
        Some(Raw::Shutoff) => DomainState::Shutoff,
        Some(Raw::Crashed) => DomainState::Crashed,
        Some(Raw::PMSuspended) => DomainState::PmSuspended,
        Some(Raw::NoState) | None => DomainState::NoState,
    })
}

/// nixvm's elements in a domain, not yet read.
struct Elements {
    /// What it has now.
    now: Option<String>,
    /// What it has at its next start.
    next: Option<String>,
    /// Whether there is a next start: it does not end with its guest.
    is_persistent: bool,
}

fn elements(domain: &Domain) -> std::result::Result<Elements, Error> {
    let element = |which| {
        let kind = sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
        domain.metadata(kind, Some(METADATA_NAMESPACE), which).unless(ErrorNumber::NoDomainMetadata)
    };
    let now = element(sys::VIR_DOMAIN_AFFECT_CURRENT)?;
    let is_persistent = domain.is_persistent()?;
    let next = if is_persistent { element(sys::VIR_DOMAIN_AFFECT_CONFIG)? } else { None };
    Ok(Elements { now, next, is_persistent })
}

/// Returns what nixvm wrote: with `VIR_DOMAIN_AFFECT_CONFIG`, what the domain has at its next start.
pub(super) fn metadata_of(
    domain: &Domain,
    which: sys::virDomainModificationImpact,
) -> std::result::Result<Option<Metadata>, Error> {
    let kind = sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
    let element =
        domain.metadata(kind, Some(METADATA_NAMESPACE), which).unless(ErrorNumber::NoDomainMetadata)?;
    Ok(element.as_deref().and_then(metadata::parse))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::error::Report;

    pub(in crate::hypervisor) fn xml(name: &str, id: MachineId, metadata: bool) -> String {
        let ours = format!(
            "<metadata><n:machine xmlns:n='{METADATA_NAMESPACE}' name='{name}' workspace='/w' volumes='{name}' \
             generation='1'><n:generation number='1' profile='core' digest='d' base='b' made='1' health='healthy' \
             nixpkgs='n' kernel='k'/></n:machine></metadata>"
        );
        format!(
            "<domain type='test'><name>{name}</name><uuid>{}</uuid>{}<memory>131072</memory><os><type>hvm</type></os></domain>",
            id.to_uuid(),
            if metadata { &ours } else { "" }
        )
    }

    /// libvirt's test driver has one domain of its own, `test`, running and without metadata.
    fn hypervisor() -> Hypervisor {
        Hypervisor::open("test:///default").unwrap()
    }

    #[test]
    fn a_foreign_domain_is_seen_and_never_owned() {
        let hypervisor = hypervisor();
        let test: MachineName = "test".parse().unwrap();
        let seen = hypervisor.find(&test).unwrap().unwrap();
        assert_eq!((seen.state, seen.metadata), (DomainState::Running, None));
        let refusal = Report::of(&hypervisor.own(&test).err().unwrap()).error;
        assert_eq!(refusal, "the domain `test` is not nixvm's");
        assert!(hypervisor.define(&test, seen.id, &xml("test", seen.id, true)).is_err());
        assert_eq!(hypervisor.find(&test).unwrap().unwrap().metadata, None);
    }

    #[test]
    fn a_machines_domain_lives_and_ends() {
        let hypervisor = hypervisor();
        let (name, id) = ("t-life".parse().unwrap(), MachineId::generate());
        assert!(hypervisor.own(&name).is_err());
        hypervisor.define(&name, id, &xml("t-life", id, true)).unwrap();
        hypervisor.define(&name, id, &xml("t-life", id, true)).unwrap();
        let owned = hypervisor.own(&name).unwrap();
        assert!(owned.start().unwrap());
        assert!(!owned.start().unwrap());
        let listed = hypervisor.domains().unwrap().into_iter().find(|domain| domain.id == id).unwrap();
        assert_eq!(listed, owned.observe().unwrap());
        assert_eq!(
            (listed.state, listed.metadata.unwrap().current().digest.as_str()),
            (DomainState::Running, "d")
        );
        assert!(owned.force_off().unwrap());
        assert!(!owned.force_off().unwrap());
        assert_eq!(hypervisor.find_id(id).unwrap().unwrap().state, DomainState::Shutoff);
    }

    #[test]
    fn a_machine_of_another_workspace_is_seen_and_never_owned() {
        let refuse = |recorded: &Metadata, _| match recorded.workspace == "/w" {
            true => Err(Failure::user("not yours").into()),
            false => Ok(()),
        };
        let hypervisor = hypervisor().of_workspace(Box::new(refuse));
        let (name, id): (MachineName, _) = ("t-theirs".parse().unwrap(), MachineId::generate());
        hypervisor.define(&name, id, &xml("t-theirs", id, true)).unwrap();
        assert_eq!(hypervisor.see(&name).unwrap().metadata().workspace, "/w");
        let other: MachineName = "t-other-name".parse().unwrap();
        for refused in [hypervisor.own(&name).map(drop), hypervisor.own_either(id, (&name, &other)).map(drop)]
        {
            assert_eq!(refused.unwrap_err().to_string(), "not yours");
        }
    }

    #[test]
    fn a_domain_of_nixvms_that_cannot_be_read_is_an_error_and_not_a_foreign_one() {
        let hypervisor = hypervisor();
        let (name, id): (MachineName, _) = ("t-records".parse().unwrap(), MachineId::generate());
        let good = xml("t-records", id, true);
        hypervisor.define(&name, id, &good).unwrap();
        let ours = |records: Vec<Metadata>| records.iter().filter(|record| record.machine == name).count();
        assert_eq!(hypervisor.records().map(ours).unwrap(), 2);
        let connection = Hypervisor::open("test:///default").unwrap();
        let other = MachineId::generate();
        let bad = xml("t-broken", other, true).replace("health='healthy'", "health='odd'");
        connection.connection().define_domain_xml(&bad).unwrap();
        let report = Report::of(&connection.records().unwrap_err());
        connection.connection().lookup_domain_by_name("t-broken").unwrap().undefine().unwrap();
        assert!(report.causes[0].ends_with("in the domain `t-broken`"), "{report:?}");
    }

    #[test]
    fn names_and_uuids_of_others_are_refused() {
        let hypervisor = hypervisor();
        let (first, second): (MachineName, MachineName) =
            ("t-first".parse().unwrap(), "t-second".parse().unwrap());
        let id = MachineId::generate();
        hypervisor.define(&first, id, &xml("t-first", id, true)).unwrap();
        let taken = Report::of(&hypervisor.check_free(&second, id).unwrap_err());
        assert!(taken.error.ends_with("is in use by the domain `t-first`"), "{taken:?}");
        let other = Report::of(&hypervisor.check_free(&first, MachineId::generate()).unwrap_err());
        assert!(other.error.contains("of the workspace `/w`"), "{other:?}");
        hypervisor.check_free(&first, id).unwrap();
        hypervisor.check_free(&second, MachineId::generate()).unwrap();
    }

    #[test]
    fn a_mac_address_of_another_domain_is_refused() {
        let hypervisor = hypervisor();
        let (name, id): (MachineName, _) = ("t-mac".parse().unwrap(), MachineId::generate());
        let (mac, card) = (MacAddress::generate(), |mac: &str| {
            format!(
                "<devices><interface type='network'><mac address='{mac}'/><source network='default'/></interface></devices></domain>"
            )
        });
        let xml = xml("t-mac", id, true).replace("</domain>", &card(&mac.to_string().to_uppercase()));
        hypervisor.define(&name, id, &xml).unwrap();
        hypervisor.check_mac(&name, id, mac).unwrap();
        hypervisor.check_mac(&name, MachineId::generate(), MacAddress::generate()).unwrap();
        let taken = Report::of(&hypervisor.check_mac(&name, MachineId::generate(), mac).unwrap_err());
        assert!(taken.error.ends_with("is in use by the domain `t-mac`"), "{taken:?}");
    }
}
