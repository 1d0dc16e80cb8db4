//! A domain that is nixvm's: seen, and owned where it is this workspace's.

use std::ops::Deref;

use virt::domain::Domain;
use virt::error::ErrorNumber;
use virt::sys;

use super::definition::Definition;
use super::domain::{foreign, metadata_of, observe, state, whole_definition};
use super::edits::{DefinedValues, defined_values};
use super::{Hypervisor, ObservedDomain};
use crate::error::{Explain, Failure, Result};
use crate::libvirt::{Answer, Say, metadata};
use crate::model::MachineName;
use crate::model::domain::DomainState;
use crate::model::record::{METADATA_NAMESPACE, Metadata};

/// A domain that carries nixvm's metadata, of whatever workspace. It can be looked at, and not changed.
pub struct Seen {
    pub(super) domain: Domain,
    pub(super) name: MachineName,
    pub(super) metadata: Metadata,
}

/// A domain of a machine of the workspace that nixvm was called in. Everything that changes a domain is a method of this.
pub struct Owned(Seen);

impl Deref for Owned {
    type Target = Seen;

    fn deref(&self) -> &Seen {
        &self.0
    }
}

impl Hypervisor {
    /// Returns the domain of the machine `name`, checked to be of this connection's workspace, for changing it.
    ///
    /// # Errors
    /// There is none, it is not nixvm's or another workspace's, or libvirt does not answer.
    pub fn own(&self, name: &MachineName) -> Result<Owned> {
        self.claim(self.see(name)?)
    }

    /// Does the same; `None` if there is no domain of that name.
    pub fn own_if_any(&self, name: &MachineName) -> Result<Option<Owned>> {
        self.find(name)?.map(|_| self.own(name)).transpose()
    }

    /// Returns the domain for changing it, once it is known to be a machine of this connection's workspace.
    pub(super) fn claim(&self, seen: Seen) -> Result<Owned> {
        let id = seen.observe()?.id;
        self.owner.as_ref().map_or(Ok(()), |check| check(&seen.metadata, id))?;
        Ok(Owned(seen))
    }

    /// Returns the domain of the machine `name`, checked to be nixvm's, for looking at it.
    ///
    /// # Errors
    /// There is none, it is not nixvm's, or libvirt does not answer.
    pub fn see(&self, name: &MachineName) -> Result<Seen> {
        let say = || Failure::user(format!("cannot ask libvirt for the domain `{name}`"));
        let found = self.connection().lookup_domain_by_name(name.as_str());
        let Some(domain) = found.unless(ErrorNumber::NoDomain).say(say)? else {
            return Err(Failure::user(format!("libvirt at `{}` has no domain `{name}`", self.uri()))
                .hint(format!("make it: `nixvm create {name}`"))
                .into());
        };
        match metadata_of(&domain, sys::VIR_DOMAIN_AFFECT_CONFIG).say(say)? {
            Some(metadata) if metadata.machine == *name => Ok(Seen { domain, name: name.clone(), metadata }),
            _ => Err(foreign(name).into()),
        }
    }
}

impl Seen {
    pub fn name(&self) -> &MachineName {
        &self.name
    }

    /// Returns the metadata in the domain's definition: that of its next start.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the port of the host that is forwarded to the guest's ssh; of one that runs, the port that it was started with.
    pub fn ssh_port(&self) -> Option<u16> {
        let now = metadata_of(&self.domain, sys::VIR_DOMAIN_AFFECT_CURRENT).ok().flatten();
        now.as_ref().unwrap_or(&self.metadata).ssh_port
    }

    /// Returns the values that nixvm last defined the machine with; `None` if an older nixvm did.
    pub fn defined_values(&self) -> Result<Option<DefinedValues>> {
        defined_values(&whole_definition(&self.domain).say(|| self.cannot("look at"))?)
    }

    pub fn observe(&self) -> Result<ObservedDomain> {
        observe(&self.domain, None).say(|| self.cannot("look at"))
    }

    pub fn state(&self) -> Result<DomainState> {
        state(&self.domain).say(|| self.cannot("look at"))
    }

    /// Returns how many virtual CPUs the guest has; of one that is off, how many it will have.
    pub fn vcpus(&self) -> Result<u32> {
        self.domain.info().map(|info| info.nr_virt_cpu).say(|| self.cannot("look at"))
    }

    /// Returns the disks that the machine has at its next start.
    pub fn disks(&self) -> Result<Definition> {
        self.read_definition(sys::VIR_DOMAIN_XML_INACTIVE)
    }

    /// Returns the disks that the machine has now; those of its next start where it is off.
    pub fn live_disks(&self) -> Result<Definition> {
        self.read_definition(0)
    }

    fn read_definition(&self, flags: sys::virDomainXMLFlags) -> Result<Definition> {
        Definition::parse(&self.domain.xml_desc(flags).say(|| self.cannot("look at"))?)
    }

    pub(super) fn cannot(&self, verb: &str) -> Failure {
        Failure::user(format!("cannot {verb} the machine `{}`", self.name))
    }
}

impl Owned {
    pub fn set_metadata(&mut self, metadata: Metadata) -> Result<()> {
        let written = self.write_metadata(&metadata, sys::VIR_DOMAIN_AFFECT_CONFIG)?;
        written.say(|| self.cannot("write down the state of"))?;
        self.0.metadata = metadata;
        Ok(())
    }

    /// Writes down where the machine's workspace is, for its next start and for what runs.
    pub fn record_workspace(&mut self, workspace: &str) -> Result<()> {
        let moved = |metadata: Metadata| Metadata { workspace: workspace.to_owned(), ..metadata };
        self.set_metadata(moved(self.metadata.clone()))?;
        if !self.state()?.is_active() {
            return Ok(());
        }
        let say = || self.cannot("write down the state of");
        if let Some(runs) = metadata_of(&self.domain, sys::VIR_DOMAIN_AFFECT_LIVE).say(say)? {
            match self.write_metadata(&moved(runs), sys::VIR_DOMAIN_AFFECT_LIVE)? {
                // The guest has just gone off, and its live definition with it.
                Err(_) if !self.state()?.is_active() => {}
                written => written.say(say)?,
            }
        }
        Ok(())
    }

    fn write_metadata(
        &self,
        metadata: &Metadata,
        which: sys::virDomainModificationImpact,
    ) -> Result<Answer<()>> {
        let kind = sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
        let element = metadata::write(metadata).explain(|| self.cannot("write down the state of"))?;
        let set =
            self.domain.set_metadata(kind, Some(&element), Some("nixvm"), Some(METADATA_NAMESPACE), which);
        Ok(set.map(drop))
    }
}
