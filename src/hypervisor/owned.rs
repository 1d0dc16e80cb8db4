//! A domain that is nixvm's: seen, and where it is this workspace's, changed.

use std::ops::Deref;
use std::time::{Duration, Instant};

use virt::domain::{Domain, DomainShutoffReason, DomainStateReason};
use virt::enumutil::Enum;
use virt::error::ErrorNumber;
use virt::sys;

use super::domain::{foreign, metadata_of, observe, state};
use super::{Hypervisor, Observed};
use crate::error::{Failure, Result};
use crate::libvirt::{Say, said};
use crate::model::MachineName;
use crate::model::domain::DomainState;
use crate::model::record::{METADATA_NAMESPACE, Metadata};

/// How often a change of state is looked for.
const POLL: Duration = Duration::from_millis(200);

/// How a guest that is off came to be off (`virDomainShutoffReason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// By its own shutdown.
    Shutdown,
    /// Its power was cut.
    Forced,
    /// It crashed, or QEMU did.
    Crashed,
    /// In some other way, or before libvirt was last started.
    Unknown,
}

/// A domain that carries nixvm's metadata, of whatever workspace. It can be looked at, and not changed.
pub struct Seen {
    pub(super) domain: Domain,
    pub(super) name: MachineName,
    pub(super) metadata: Metadata,
}

/// A domain of a machine of the workspace that nixvm was called in. All that changes a domain is a method of this.
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

    /// Returns what may be changed, once it is known to be a machine of this connection's workspace.
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
    /// Returns the machine's name.
    pub fn name(&self) -> &MachineName {
        &self.name
    }

    /// Returns what nixvm wrote into the domain's definition: what the machine has from its next start on.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the domain as it is now.
    ///
    /// # Errors
    /// libvirt does not answer, or the domain is gone.
    pub fn observe(&self) -> Result<Observed> {
        observe(&self.domain, None).say(|| self.cannot("look at"))
    }

    /// Returns the state it is in now.
    ///
    /// # Errors
    /// libvirt does not answer, or the domain is gone.
    pub fn state(&self) -> Result<DomainState> {
        state(&self.domain).say(|| self.cannot("look at"))
    }

    /// Returns how many virtual CPUs its guest has, or will have.
    ///
    /// # Errors
    /// libvirt does not answer, or the domain is gone.
    pub fn vcpus(&self) -> Result<u32> {
        self.domain.info().map(|info| info.nr_virt_cpu).say(|| self.cannot("look at"))
    }

    /// Waits until `reached` holds for the domain's state, `limit` at most, and returns the last state seen.
    ///
    /// # Errors
    /// libvirt does not answer, or the domain is gone.
    pub fn wait_until(&self, reached: impl Fn(DomainState) -> bool, limit: Duration) -> Result<DomainState> {
        let start = Instant::now();
        loop {
            let state = self.state()?;
            let left = limit.saturating_sub(start.elapsed());
            if reached(state) || left.is_zero() {
                return Ok(state);
            }
            std::thread::sleep(POLL.min(left));
        }
    }

    /// Returns how the guest came to be off; `None` while it is up.
    ///
    /// # Errors
    /// libvirt does not answer, or the domain is gone.
    pub fn ended(&self) -> Result<Option<Ended>> {
        if self.state()?.is_active() {
            return Ok(None);
        }
        let (_, reason) = self.domain.state().say(|| self.cannot("look at"))?;
        Ok(Some(match reason {
            Enum::Known(DomainStateReason::Shutoff(reason)) => match reason.known() {
                Some(DomainShutoffReason::Shutdown) => Ended::Shutdown,
                Some(DomainShutoffReason::Destroyed) => Ended::Forced,
                Some(DomainShutoffReason::Crashed | DomainShutoffReason::Failed) => Ended::Crashed,
                _ => Ended::Unknown,
            },
            Enum::Known(DomainStateReason::Crashed(_)) => Ended::Crashed,
            _ => Ended::Unknown,
        }))
    }

    pub(super) fn cannot(&self, verb: &str) -> Failure {
        Failure::user(format!("cannot {verb} the machine `{}`", self.name))
    }
}

impl Owned {
    /// Writes what nixvm has to say into the domain's definition, `xml` being the element for it.
    ///
    /// # Errors
    /// libvirt does not answer, or the domain is gone.
    pub fn set_metadata(&mut self, metadata: Metadata, xml: &str) -> Result<()> {
        let (kind, which) = (sys::VIR_DOMAIN_METADATA_ELEMENT as i32, sys::VIR_DOMAIN_AFFECT_CONFIG);
        self.domain
            .set_metadata(kind, Some(xml), Some("nixvm"), Some(METADATA_NAMESPACE), which)
            .say(|| self.cannot("write down the state of"))?;
        self.0.metadata = metadata;
        Ok(())
    }

    /// Writes down where the machine's workspace is, for its next start and for what runs; `xml` gives the element.
    ///
    /// # Errors
    /// libvirt does not answer, or the domain is gone.
    pub fn record_workspace(
        &mut self,
        workspace: &str,
        xml: impl Fn(&Metadata) -> Result<String>,
    ) -> Result<()> {
        let moved = |metadata: Metadata| Metadata { workspace: workspace.to_owned(), ..metadata };
        let defined = moved(self.metadata.clone());
        let text = xml(&defined)?;
        self.set_metadata(defined, &text)?;
        if !self.state()?.is_active() {
            return Ok(());
        }
        let say = || self.cannot("write down the state of");
        if let Some(runs) = metadata_of(&self.domain, sys::VIR_DOMAIN_AFFECT_LIVE).say(say)? {
            let kind = sys::VIR_DOMAIN_METADATA_ELEMENT as i32;
            let (text, which) = (xml(&moved(runs))?, sys::VIR_DOMAIN_AFFECT_LIVE);
            let set =
                self.domain.set_metadata(kind, Some(&text), Some("nixvm"), Some(METADATA_NAMESPACE), which);
            match set {
                // It has just gone off, and what ran is no more.
                Err(_) if !self.state()?.is_active() => {}
                set => drop(set.say(say)?),
            }
        }
        Ok(())
    }

    /// Starts the guest and returns whether it was off.
    ///
    /// # Errors
    /// QEMU does not start, or libvirt does not answer.
    pub fn start(&self) -> Result<bool> {
        if self.state()?.is_active() {
            return Ok(false);
        }
        self.domain.create().map_err(|error| self.cannot_start("start", &error).because(said(&error)))?;
        Ok(true)
    }

    /// Has a guest that was paused go on, and returns whether it was up.
    ///
    /// # Errors
    /// libvirt refuses.
    pub fn resume(&self) -> Result<bool> {
        self.while_up("resume", Domain::resume)
    }

    /// Asks the guest to shut down, through its agent or else by ACPI, and returns whether it was up.
    ///
    /// # Errors
    /// libvirt cannot ask it.
    pub fn shutdown(&self) -> Result<bool> {
        self.while_up("shut down", |domain| match domain.shutdown() {
            // A guest that has just heard an earlier call is not running any more, and not off yet.
            Err(_) if state(domain)? == DomainState::Shutdown => Ok(()),
            asked => asked.map(drop),
        })
    }

    /// Cuts the guest's power and returns whether it was up.
    ///
    /// # Errors
    /// QEMU does not end, or libvirt does not answer.
    pub fn force_off(&self) -> Result<bool> {
        self.while_up("force off", Domain::destroy)
    }

    /// Throws away the guest's memory that is on disk: what it had not written to its disks is lost.
    ///
    /// # Errors
    /// There is none, or libvirt does not answer.
    pub fn discard_saved_memory(&self) -> Result<()> {
        self.domain.managed_save_remove(0).say(|| self.cannot("throw away the saved memory of"))
    }

    /// Asks the guest to reboot, through its agent or else by ACPI, and returns whether it was up.
    ///
    /// # Errors
    /// libvirt cannot ask it.
    pub fn reboot(&self) -> Result<bool> {
        self.while_up("reboot", |domain| domain.reboot(sys::VIR_DOMAIN_REBOOT_DEFAULT))
    }

    /// Removes the domain's definition together with its NVRAM; its volumes stay.
    ///
    /// # Errors
    /// The guest is up, or libvirt does not answer.
    pub fn undefine(self) -> Result<()> {
        if self.state()?.is_active() {
            let hint = format!("stop it first: `nixvm stop {}`", self.name);
            return Err(self.cannot("remove").hint(hint).because(Failure::user("its guest is up")).into());
        }
        let flags = sys::VIR_DOMAIN_UNDEFINE_NVRAM
            | sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;
        self.domain.undefine_flags(flags).say(|| self.cannot("remove"))
    }

    fn while_up(
        &self,
        verb: &str,
        act: impl FnOnce(&Domain) -> std::result::Result<(), virt::error::Error>,
    ) -> Result<bool> {
        if !self.state()?.is_active() {
            return Ok(false);
        }
        match act(&self.domain) {
            // It may have gone down by itself between the two calls.
            Err(_) if !self.state()?.is_active() => Ok(false),
            done => done.say(|| self.cannot(verb)).map(|()| true),
        }
    }
}
