//! What an interrupted or failed work left is cleaned up.

use crate::disks::{layers, roots};
use crate::error::Result;
use crate::journal::{self, Entry, Intent};
use crate::model::volume::{self, Role};
use crate::work::Work;
use crate::work::machine::is_committed;

impl Work<'_> {
    /// Cleans up what this work leaves half done, unless only the same command may finish it.
    pub(super) fn clean_up(&self) -> Result<()> {
        let Some(left) = journal::read(&self.setup.workspace.work_dir(), &self.name)? else { return Ok(()) };
        // libvirt is asked because the journal may lag behind: the disk may be full.
        match self.host.own_if_any(&self.name)? {
            Some(domain) if is_committed(&left, &domain)? => Ok(()),
            _ => self.settle(&left),
        }
    }

    /// Deletes those of the work's volumes that the machine does not refer to, and forgets the work.
    pub(super) fn settle(&self, entry: &Entry) -> Result<()> {
        let mut domain = self.host.own_if_any(&self.name)?;
        if let Some(domain) = &mut domain {
            // libvirt may still be running the job of the killed command, and until it is done answers as before. A
            // metadata write queues behind it, so when this returns the job is done.
            let same = domain.metadata().clone();
            domain.set_metadata(same)?;
        }
        // Where somebody removed the domain meanwhile, nobody knows any more which volumes it referred to: they stay.
        if domain.is_some() || entry.is_birth {
            let pool = self.pool()?;
            if let Some(domain) = domain.as_ref().filter(|_| entry.volumes.iter().any(|v| is_backup(v))) {
                // Without this QEMU would go on writing to the copy that is deleted below, and a frozen guest stay frozen.
                domain.end_backup()?;
                if domain.is_frozen() == Some(true) {
                    domain.thaw()?;
                }
            }
            let interrupted = entry.step().and_then(|step| step.intent);
            if let (Some(domain), Some(Intent::Merge { base, top })) = (&domain, interrupted) {
                layers::undo_merge(&pool, domain, base, top)?;
            }
            let used = domain.map(|domain| roots::of(&pool, &domain)).transpose()?.unwrap_or_default();
            for volume in entry.volumes.iter().filter(|volume| !used.contains(*volume)) {
                // Another workspace may have made a machine of it since.
                match pool.user_of(volume)? {
                    Some(user) => self.watch.note(&format!("{volume} stays: the domain `{user}` needs it")),
                    None => pool.clear(volume)?,
                }
            }
        }
        journal::forget(&self.setup.workspace.work_dir(), &self.name)
    }
}

fn is_backup(name: &str) -> bool {
    matches!(volume::parse(name), Some((_, Role::Backup)))
}
