//! The domains of a hypervisor as they are, nixvm's or not.

use std::collections::HashMap;

use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::sys;

use super::Hypervisor;
use crate::error::{Failure, Result};
use crate::libvirt::{Answer, Say, metadata};
use crate::model::domain::DomainState;
use crate::model::record::{METADATA_NAMESPACE, Metadata};
use crate::model::{MachineId, MachineName};

/// A domain as libvirt has it now, nixvm's or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedDomain {
    /// The name of a foreign domain can be any text.
    pub name: String,
    pub id: MachineId,
    pub state: DomainState,
    /// `None` for a domain that is not nixvm's. Of a domain that runs, this belongs to what runs, not to its next start.
    pub metadata: Option<Metadata>,
}

impl Hypervisor {
    /// Returns every domain, sorted by name.
    ///
    /// This takes five calls, and more for each domain: libvirt hands out metadata only one by one.
    pub fn domains(&self) -> Result<Vec<ObservedDomain>> {
        let list = || -> Answer<Vec<ObservedDomain>> {
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

    /// Returns the metadata of all domains of nixvm: of their next start, and of what runs.
    ///
    /// This is for deleting volumes that no domain refers to, so metadata that cannot be read is an error.
    ///
    /// # Errors
    /// A domain carries nixvm's element and this nixvm cannot read it; libvirt does not answer.
    pub fn records(&self) -> Result<Vec<Metadata>> {
        let say = || Failure::user("cannot read what all domains refer to");
        let mut records = Vec::new();
        for domain in self.connection().list_all_domains(0).say(say)? {
            // One that was undefined, or that ended, since the list was made no longer refers to anything.
            let elements = || -> Answer<_> {
                let now = element(&domain, sys::VIR_DOMAIN_AFFECT_CURRENT)?;
                // A domain that is not persistent ends with its guest.
                let next = domain.is_persistent()?.then(|| element(&domain, sys::VIR_DOMAIN_AFFECT_CONFIG));
                Ok((now, next.transpose()?))
            };
            let Some((now, next)) = elements().unless(ErrorNumber::NoDomain).say(say)? else { continue };
            let read = |element: Option<String>| -> Result<Option<Metadata>> {
                let unreadable = || {
                    let name = domain.name().unwrap_or_default();
                    let why = format!("this nixvm cannot read its own metadata in the domain `{name}`");
                    say().because(Failure::user(why)).hint(format!(
                        "look at it with `virsh dumpxml {name}`; nothing is deleted until it is fixed"
                    ))
                };
                element.map(|element| Ok(metadata::read(&element).ok_or_else(unreadable)?)).transpose()
            };
            let runs = read(now)?;
            let Some(next) = next else {
                records.extend(runs);
                continue;
            };
            records.extend(read(next)?);
            // Of a running guest's record only the generation it was started on still counts.
            records.extend(
                runs.map(|runs| Metadata { generations: runs.generations.retain(|_| false), ..runs }),
            );
        }
        Ok(records)
    }

    /// Returns the state of every domain that is in one of the usual states.
    fn states(&self) -> Answer<HashMap<[u8; 16], DomainState>> {
        let mut states = HashMap::new();
        for (state, flag) in [
            (DomainState::Running, sys::VIR_CONNECT_LIST_DOMAINS_RUNNING),
            (DomainState::Paused, sys::VIR_CONNECT_LIST_DOMAINS_PAUSED),
            (DomainState::Shutoff, sys::VIR_CONNECT_LIST_DOMAINS_SHUTOFF),
            // Some of those that are off, so this comes last.
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
    pub fn find(&self, name: &MachineName) -> Result<Option<ObservedDomain>> {
        self.observed(self.connection().lookup_domain_by_name(name.as_str()), name)
    }

    /// Returns the domain of that UUID, nixvm's or not.
    pub fn find_id(&self, id: MachineId) -> Result<Option<ObservedDomain>> {
        self.observed(self.connection().lookup_domain_by_uuid_string(&id.to_uuid()), id)
    }

    fn observed(
        &self,
        found: Answer<Domain>,
        what: impl std::fmt::Display,
    ) -> Result<Option<ObservedDomain>> {
        found
            .and_then(|domain| observe(&domain, None))
            .unless(ErrorNumber::NoDomain)
            .say(|| Failure::user(format!("cannot ask libvirt for the domain `{what}`")))
    }
}

pub(super) fn foreign(name: &MachineName) -> Failure {
    Failure::user(format!("the domain `{name}` is not nixvm's"))
        .hint("nixvm touches no domain that it did not make; give the machine another name, or remove the domain with the tool that made it")
}

/// Returns the domain as it is now; `known` is its state, where the caller knows it already.
pub(super) fn observe(domain: &Domain, known: Option<DomainState>) -> Answer<ObservedDomain> {
    let bytes = domain.uuid()?.into_bytes();
    Ok(ObservedDomain {
        name: domain.name()?,
        id: MachineId::from_bytes(bytes).ok_or_else(Error::last_error)?,
        state: known.map_or_else(|| state(domain), Ok)?,
        metadata: metadata_of(domain, sys::VIR_DOMAIN_AFFECT_CURRENT)?,
    })
}

/// Returns the domain's state.
///
/// By `virDomainGetInfo`: `virt` 0.5's `Domain::state` drops libvirt's error.
pub(super) fn state(domain: &Domain) -> Answer<DomainState> {
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

/// Returns the definition with what libvirt otherwise hides, such as the password of a display, which must not get lost.
pub(super) fn whole_definition(domain: &Domain) -> Answer<String> {
    domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE)
}

fn element(domain: &Domain, which: sys::virDomainModificationImpact) -> Answer<Option<String>> {
    let kind = sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
    domain.metadata(kind, Some(METADATA_NAMESPACE), which).unless(ErrorNumber::NoDomainMetadata)
}

/// Returns nixvm's metadata; with `VIR_DOMAIN_AFFECT_CONFIG` that of the next start.
pub(super) fn metadata_of(
    domain: &Domain,
    which: sys::virDomainModificationImpact,
) -> Answer<Option<Metadata>> {
    Ok(element(domain, which)?.as_deref().and_then(metadata::read))
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
    pub(in crate::hypervisor) fn hypervisor() -> Hypervisor {
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
        let refuse = |recorded: &Metadata, _| {
            if recorded.workspace == "/w" { Err(Failure::user("not yours").into()) } else { Ok(()) }
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
}
