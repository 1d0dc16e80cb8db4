//! The steps of a backup, from what the machine is and what is wanted.

use crate::work::Plan;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Copy the data of one instant into that volume.
    Copy(String),
    Archive(String),
    /// Write the archive of a machine that is off, from its own volume.
    ArchiveInPlace(String),
    Delete(String),
    Checkpoints,
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Copy(_) => "copy the data of one instant".into(),
            Step::Archive(_) | Step::ArchiveInPlace(_) => "write the archive".into(),
            Step::Delete(_) => "delete the copy".into(),
            Step::Checkpoints => "delete checkpoints that no backup needs".into(),
        }
    }

    fn volumes(&self) -> Vec<String> {
        match self {
            Step::Copy(volume) => vec![volume.clone()],
            // The machine's own volume must never be listed here: these are deleted after an interruption.
            Step::Archive(_) | Step::ArchiveInPlace(_) | Step::Delete(_) | Step::Checkpoints => Vec::new(),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The volume for the copy.
    pub(super) copy: String,
    /// The volume that the machine writes to.
    pub(super) top: String,
    pub(super) running: bool,
    /// Whether `top` is one plain file, as a copy would be.
    pub(super) compact: bool,
    /// Whether this backup adds to another, or another can add to it.
    pub(super) incremental: bool,
}

pub(super) fn plan(facts: &Facts) -> Vec<Step> {
    let Facts { copy, top, running, compact, incremental } = facts;
    if *compact && !running && !incremental {
        return vec![Step::ArchiveInPlace(top.clone())];
    }
    let mut steps = vec![Step::Copy(copy.clone()), Step::Archive(copy.clone()), Step::Delete(copy.clone())];
    if *incremental {
        // Last: until the new archive is complete, the next one could only begin from the old checkpoint.
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
