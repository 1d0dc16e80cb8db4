//! A machine's power, switched on and off.

use virt::domain::{Domain, DomainShutoffReason, DomainStateReason};
use virt::enumutil::Enum;
use virt::sys;

use super::domain::state;
use super::{Owned, Seen};
use crate::error::{Failure, Result};
use crate::libvirt::{Answer, Say, said};
use crate::model::domain::DomainState;

/// How a guest that is off went off (`virDomainShutoffReason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    Shutdown,
    /// libvirt was told to cut its power.
    Forced,
    /// It crashed, or QEMU did.
    Crashed,
    /// In another way, or before libvirt was last started.
    Unknown,
}

impl Seen {
    /// Returns how the guest went off; `None` while it is up.
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

    /// Returns whether libvirt starts the machine together with its host.
    pub fn autostart(&self) -> Result<bool> {
        self.domain.autostart().say(|| self.cannot("look at"))
    }
}

impl Owned {
    /// Has libvirt start the machine together with its host, or no longer.
    pub fn set_autostart(&self, on: bool) -> Result<()> {
        if self.autostart()? == on {
            return Ok(());
        }
        self.domain.set_autostart(on).say(|| self.cannot("change the autostart of"))
    }

    /// Starts the guest and returns whether it was off.
    pub fn start(&self) -> Result<bool> {
        if self.state()?.is_active() {
            return Ok(false);
        }
        self.domain.create().map_err(|error| self.cannot_start("start", &error).because(said(&error)))?;
        Ok(true)
    }

    /// Resumes a paused guest and returns whether it was up.
    pub fn resume(&self) -> Result<bool> {
        self.while_up("resume", Domain::resume)
    }

    /// Asks the guest to shut down, through its agent or else by ACPI, and returns whether it was up.
    pub fn shutdown(&self) -> Result<bool> {
        self.while_up("shut down", |domain| match domain.shutdown() {
            // An earlier call is already shutting it down: it is no longer running, and not off yet.
            Err(_) if state(domain)? == DomainState::Shutdown => Ok(()),
            asked => asked.map(drop),
        })
    }

    /// Cuts the guest's power and returns whether it was up.
    pub fn force_off(&self) -> Result<bool> {
        self.while_up("force off", Domain::destroy)
    }

    /// Deletes the guest's saved memory: all that the guest had not written to its disks is lost.
    pub fn discard_saved_memory(&self) -> Result<()> {
        self.domain.managed_save_remove(0).say(|| self.cannot("throw away the saved memory of"))
    }

    /// Removes the domain's definition together with its NVRAM; its volumes stay. The guest must be off.
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

    fn while_up(&self, verb: &str, act: impl FnOnce(&Domain) -> Answer<()>) -> Result<bool> {
        if !self.state()?.is_active() {
            return Ok(false);
        }
        match act(&self.domain) {
            // It may have gone off by itself between the two calls.
            Err(_) if !self.state()?.is_active() => Ok(false),
            done => done.say(|| self.cannot(verb)).map(|()| true),
        }
    }
}
