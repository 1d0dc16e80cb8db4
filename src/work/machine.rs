//! A machine that one process alone works on.
//!
//! Every command that changes more than one thing carries out a plan: a list of steps which a pure function makes from what
//! the machine is and what is wanted. Taking a step twice does no harm. One step, the definition of the domain, makes the change
//! real, because libvirt replaces a definition whole. Before it the new volumes are orphaned; after it the old ones are. So
//! whenever a command dies, the machine is the old one or the new one, and only orphaned volumes are left to delete.

use crate::disks::layer_of;
use crate::error::{Failure, Result};
use crate::host::{Setup, Watch, open_pool};
use crate::hypervisor::{Hypervisor, Owned};
use crate::journal::{Entry, Holder, Intent, MachineLock};
use crate::model::MachineName;
use crate::storage::Pool;

/// A machine that this process alone works on.
pub struct Work<'a> {
    pub setup: &'a Setup,
    pub host: Hypervisor,
    pub name: MachineName,
    pub watch: &'a dyn Watch,
    /// The journal of the same command, if that was interrupted before.
    pub resumed: Option<Entry>,
    /// Whether this command finishes an interrupted one that could not be undone.
    pub finishes: bool,
    pub(super) holder: Holder,
    pub(super) lock: MachineLock,
}

impl Work<'_> {
    /// Returns the machine's domain.
    ///
    /// # Errors
    /// There is none, or it is not nixvm's.
    pub fn domain(&self) -> Result<Owned> {
        self.host.own(&self.name)
    }

    /// Checks that no other program has started the machine since it was off.
    pub fn require_off(&self, domain: &Owned) -> Result<()> {
        if !domain.state()?.is_active() {
            return Ok(());
        }
        Err(Failure::user(format!("{} was started by another program", self.name))
            .hint("run the command again")
            .into())
    }

    /// Returns the machine's pool, made where it is missing; it refuses to delete a volume that another domain needs.
    pub fn pool(&self) -> Result<Pool> {
        let id = self.host.find(&self.name)?.map(|domain| domain.id);
        Ok(open_pool(self.setup, &self.host)?.of_machine(self.name.clone(), id))
    }

    /// Returns whether the same command was interrupted with a step of that intent in its plan.
    pub fn was_to(&self, intent: Intent) -> bool {
        self.resumed.as_ref().is_some_and(|entry| entry.intends(intent))
    }

    /// Returns whether the machine is to run at the end of a command that stops it: it runs, or did before the same command was
    /// interrupted.
    pub fn is_to_run(&self, domain: &Owned) -> Result<bool> {
        Ok(domain.state()?.is_active() || self.was_to(Intent::Restart))
    }

    /// Returns whether the same command was interrupted after it had made the change that counts.
    ///
    /// Started over, it would take the new data for the old, and replace what the guest has written to it since.
    pub fn was_committed(&self, domain: &Owned) -> Result<bool> {
        self.resumed.as_ref().map_or(Ok(false), |entry| is_committed(entry, domain))
    }

    /// Ends the work on a machine that no longer exists, and removes its lock.
    pub fn end_of_machine(self) -> Result<()> {
        self.lock.remove()
    }
}

/// Returns whether the work has made the change that counts, so that only the same command may finish it: the domain is
/// defined on the data that the work made, or the snapshot that it deletes is gone.
pub(super) fn is_committed(entry: &Entry, domain: &Owned) -> Result<bool> {
    if entry.intends(Intent::Forget) {
        let has =
            |name: &str| domain.metadata().snapshots.iter().any(|snapshot| snapshot.name.as_str() == name);
        // `snapshot --keep` deletes snapshots that its command line does not name.
        return Ok(entry.holder.command.verb() == "delete-snapshot"
            && !entry.holder.command.object().is_some_and(has));
    }
    Ok(entry.intends(Intent::Layer(layer_of(domain)?)))
}
