//! `delete-snapshot`: a snapshot less, and its layer too where that can be.
//!
//! The record goes first: from the beginning of a merge on, the layer shows nothing sensible by itself. A leaf is
//! deleted. A layer that exactly one other of the chain in use lies on is merged with that one: what the upper holds
//! goes down, and the upper goes. Until it is deleted it shows what it showed. If it is itself a snapshot's, the record
//! says beforehand that it is to become the lower one's; QEMU taking the upper out of the chain is what makes that true
//! (see [`Metadata::after_merges`]). So a merge may be interrupted anywhere, also between its end and its record; and where
//! QEMU died with nixvm, the next command undoes it (see [`undo_merge`](super::layers::undo_merge)).
//!
//! What cannot be merged stays as a link: what several layers lie on, and what is no part of the chain in use, for
//! libvirt has QEMU merge only what a machine has open.

use crate::error::Result;
use crate::host::{Setup, Watch};
use crate::journal::Command;
use crate::model::{MachineName, SnapshotName};
use crate::work::Work;
use crate::work::merges::{Deleted, delete};

/// Deletes a snapshot.
///
/// # Errors
/// There is none of that name, a chain is not whole, the pool has no space for a merge, or libvirt fails. What is left
/// then is whole, and the next deletion of a snapshot goes on with it.
pub fn delete_snapshot(
    setup: &Setup,
    name: &MachineName,
    snapshot: &SnapshotName,
    watch: &dyn Watch,
) -> Result<Deleted> {
    let command = Command::new("delete-snapshot", [name.as_str(), snapshot.as_str()]);
    let work = Work::begin_command(setup, name, command, watch)?;
    delete(&work, snapshot)
}
