//! A step of a plan.

use crate::journal::Intent;

/// One step of a plan.
pub trait Plan {
    /// Returns what the step does, for people: `put the boot disk into the pool`.
    fn title(&self) -> String;

    /// Returns what a later command has to know of it, should this one be interrupted.
    fn intent(&self) -> Option<Intent> {
        None
    }

    /// Returns the volumes that the step makes, or deletes because the new definition replaced them.
    fn volumes(&self) -> Vec<String> {
        Vec::new()
    }
}
