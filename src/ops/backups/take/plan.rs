//! The steps of a backup, from what the machine is and what is wanted.

use crate::work::Plan;

/// What a backup does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Copy the data as it is at one instant into that volume.
    Copy(String),
    /// Write the archive with that volume.
    Archive(String),
    /// Write the archive with the volume that the machine writes to itself, which is off.
    ArchiveInPlace(String),
    /// Delete the copy.
    Delete(String),
    /// Delete checkpoints.
    Checkpoints,
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Copy(_) => "copy the data as it is at one instant".into(),
            Step::Archive(_) | Step::ArchiveInPlace(_) => "write the archive".into(),
            Step::Delete(_) => "delete the copy".into(),
            Step::Checkpoints => "delete checkpoints that no backup begins from any more".into(),
        }
    }

    fn volumes(&self) -> Vec<String> {
        match self {
            Step::Copy(volume) => vec![volume.clone()],
            // The machine's own is never in danger.
            Step::Archive(_) | Step::ArchiveInPlace(_) | Step::Delete(_) | Step::Checkpoints => Vec::new(),
        }
    }
}

/// What a backup begins from.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The volume for a copy.
    pub(super) copy: String,
    /// The volume that the machine writes to.
    pub(super) top: String,
    /// Whether the machine runs.
    pub(super) running: bool,
    /// Whether `top` is as a copy of the machine's data would be.
    pub(super) compact: bool,
    /// Whether another backup is to be able to add to this one, or this one to another.
    pub(super) incremental: bool,
}

/// Returns the steps of a backup.
pub(super) fn plan(facts: &Facts) -> Vec<Step> {
    let Facts { copy, top, running, compact, incremental } = facts;
    if *compact && !running && !incremental {
        return vec![Step::ArchiveInPlace(top.clone())];
    }
    let mut steps = vec![Step::Copy(copy.clone()), Step::Archive(copy.clone()), Step::Delete(copy.clone())];
    if *incremental {
        // Last: until the new archive is there, the old checkpoint is what the next one could begin from.
        steps.push(Step::Checkpoints);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            copy: "web.backup.qcow2".into(),
            top: "web.data-1.qcow2".into(),
            running: false,
            compact: true,
            incremental: false,
        }
    }

    #[test]
    fn the_old_checkpoint_outlives_the_new_archive_and_the_copy_does_not() {
        let volume = || "web.backup.qcow2".to_owned();
        let copied = [Step::Copy(volume()), Step::Archive(volume()), Step::Delete(volume())];
        let steps = plan(&Facts { incremental: true, ..facts() });
        assert_eq!(steps[..3], copied);
        assert_eq!(steps[3..], [Step::Checkpoints]);
        assert_eq!(steps.iter().flat_map(Step::volumes).collect::<Vec<_>>(), [volume()]);
        assert_eq!(plan(&Facts { running: true, ..facts() }), copied);
        assert_eq!(plan(&Facts { compact: false, ..facts() }), copied, "layers, bitmaps or holes");
    }

    #[test]
    fn what_nobody_writes_is_not_copied_first_and_never_taken_for_a_copy() {
        let steps = plan(&facts());
        assert_eq!(steps, [Step::ArchiveInPlace("web.data-1.qcow2".into())]);
        // Else it would be deleted, were the backup interrupted and the machine's definition lost.
        assert_eq!(steps.iter().flat_map(Step::volumes).count(), 0);
    }
}
