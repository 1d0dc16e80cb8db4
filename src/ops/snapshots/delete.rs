//! `delete-snapshot`: deletes a snapshot, and its layer too where that is possible.
//!
//! The record is deleted first, because a layer is not readable by itself once its merge has begun. A leaf is deleted. A layer
//! with exactly one other on it, in the chain in use, takes in that one's data, and that one is deleted; any other stays as a
//! link, for libvirt has QEMU merge only files that a machine has open.
//!
//! If the upper layer is a snapshot's itself, the record says beforehand that the snapshot will be the lower layer's; that
//! becomes true when QEMU takes the upper out of the chain (`Metadata::after_merges`). So a merge may be interrupted anywhere.
//! Where QEMU died with nixvm, the next command undoes it (`disks::layers::undo_merge`).

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
