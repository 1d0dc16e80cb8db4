//! What every plan is made of.

use crate::journal::Intent;

/// One step of a plan: an enum of a verb's steps implements it.
pub trait Plan {
    /// Says what the step does, as `status` shows it: `put the boot disk into the pool`.
    fn title(&self) -> String;

    /// Returns what a later command has to know of the step, should this one be interrupted.
    fn intent(&self) -> Option<Intent> {
        None
    }

    /// Returns the volumes that are orphaned should the work be interrupted: those the step makes, and those it deletes.
    fn volumes(&self) -> Vec<String> {
        Vec::new()
    }
}
