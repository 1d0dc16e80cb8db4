//! The copy of a machine's data in the pool.

use crate::backup::{Parent, State};
use crate::error::Result;
use crate::host::{accelerator, moved};
use crate::hypervisor::BackupRequest;
use crate::interrupt;
use crate::model::Timestamp;
use crate::work::Work;

use super::run::{Captured, Job};

/// Bytes that a copy needs beside its data, at least: qcow2's tables, or the firmware's variables.
const BESIDE_CLUSTERS: u64 = 1 << 20;

impl Job<'_> {
    /// Copies the data disk, as it is now, to a new volume.
    pub(super) fn copy(&mut self, volume: &str, top: &str) -> Result<Captured> {
        self.work.watch.step(&format!("Copying the data of {}", self.machine.name));
        // A volume of this name is left from an interrupted copy.
        self.pool.delete(volume)?;
        let running = self.domain.state()?.is_active();
        if !running && self.series.is_none() {
            let taken = Captured::off();
            self.duplicate(volume, top)?;
            return Ok(taken);
        }
        if !running {
            // Only QEMU knows what has changed, so it is started with its guest paused. It writes firmware variables where there
            // are none.
            self.pool.require_space(BESIDE_CLUSTERS, "the copy of its data")?;
            self.paused = Some(self.domain.paused()?);
        }
        let copy = match self.beginning()? {
            None => self.push(volume, top, None)?,
            Some(parent) => self.push(volume, top, Some(parent)).or_else(|error| {
                interrupt::check()?;
                self.cannot_tell(&error);
                self.pool.delete(volume)?;
                self.push(volume, top, None)
            })?,
        };
        Ok(Captured { state: if running { copy.state } else { State::Off }, ..copy })
    }

    /// Returns the backup that the copy adds to, if QEMU still knows what changed since, after checking the space for that.
    fn beginning(&self) -> Result<Option<(Parent, String)>> {
        let Some(parent) = self.series.as_ref().and_then(|series| series.parent.clone()) else {
            return Ok(None);
        };
        match self.domain.changed_since(&parent.1) {
            Ok(bytes) => {
                self.pool.require_space(bytes + BESIDE_CLUSTERS, "the copy of what changed")?;
                Ok(Some(parent))
            }
            Err(error) => {
                self.cannot_tell(&error);
                Ok(None)
            }
        }
    }

    fn cannot_tell(&self, error: &anyhow::Error) {
        self.work.watch.note(&format!(
            "cannot add to the last backup of {}; this is a full one ({error:#})",
            self.machine.name
        ));
    }

    /// Copies the data of a machine that is off.
    fn duplicate(&self, volume: &str, top: &str) -> Result<()> {
        let Work { setup, host, watch, .. } = self.work;
        let [from, to] = self.pool.blank_for(volume, top, true)?;
        let accelerator = accelerator(setup, host, *watch)?;
        host.copy_image(accelerator, &from, &to, &mut moved(*watch))
    }

    /// Has QEMU copy the data, or what changed since the parent's checkpoint.
    fn push(&self, volume: &str, top: &str, parent: Option<(Parent, String)>) -> Result<Captured> {
        let [_, path] = self.pool.blank_for(volume, top, parent.is_none())?;
        let created = Timestamp::now();
        let checkpoint = self.series.as_ref().map(|series| format!("{}{created}", series.prefix));
        if let Some(checkpoint) = &checkpoint {
            // One of this very second is left from a try that failed.
            self.domain.delete_checkpoint(checkpoint)?;
        }
        let since = parent.as_ref().map(|(_, checkpoint)| checkpoint.as_str());
        let request = BackupRequest { path: &path, since, checkpoint: checkpoint.as_deref() };
        let frozen = self.domain.backup_data(request, &mut moved(self.work.watch));
        if let (Err(_), Some(checkpoint)) = (&frozen, &checkpoint) {
            let _ = self.domain.delete_checkpoint(checkpoint);
        }
        let frozen = frozen?;
        let state = if frozen.is_some() { State::Frozen } else { State::Running };
        Ok(Captured { created, state, parent: parent.map(|(parent, _)| parent), checkpoint, frozen })
    }
}
