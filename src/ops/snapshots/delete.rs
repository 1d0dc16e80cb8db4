//! `delete-snapshot`: deletes a snapshot, and its layer too where that is possible.
//!
//! The record is deleted first, because a layer is not readable by itself once its merge has begun. A leaf is deleted. A layer
//! that exactly one other layer of the chain in use lies on is merged with that one: the upper layer's data moves into the
//! lower, and the upper is deleted. Until then the upper shows what it showed. If the upper is a snapshot's itself, the record
//! says beforehand that the snapshot will be the lower layer's; that becomes true when QEMU takes the upper out of the chain
//! (`Metadata::after_merges`). So a merge may be interrupted anywhere, also between its end and its record. Where QEMU died
//! with nixvm, the next command undoes the merge (`disks::layers::undo_merge`).
//!
//! A layer that several others lie on, or that is not part of the chain in use, stays as a link: libvirt has QEMU merge only
//! files that a machine has open.

use crate::error::Result;
use crate::host::{Setup, Watch};
use crate::journal::Command;
use crate::model::{MachineName, SnapshotName};
use crate::work::Work;
use crate::work::merges::{Deleted, delete};

/// Deletes a snapshot.
///
/// # Errors
/// Where a merge fails, the layers are whole, and the next deletion of a snapshot continues with them.
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
