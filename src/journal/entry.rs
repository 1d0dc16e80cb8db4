//! What a command has done so far.

use serde::{Deserialize, Serialize};

use super::lock::Holder;
use crate::model::{Connection, PoolName};

/// The version of the file that this nixvm writes.
pub(super) const FORMAT: u32 = 2;

/// The work of one command on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub(super) format: u32,
    /// Who does it.
    pub holder: Holder,
    /// The pool that its volumes are in; `None` where an older nixvm wrote it.
    #[serde(default)]
    pub pool: Option<PoolName>,
    /// The libvirt that it is at; likewise.
    #[serde(default)]
    pub connection: Option<Connection>,
    /// Whether there was no domain when it began: then all of its volumes are its own.
    pub is_birth: bool,
    /// Whether the work, once begun, can only be finished: what a deletion has deleted is gone.
    pub only_onward: bool,
    /// Its steps, in order.
    pub steps: Vec<Recorded>,
    /// How many of them are done.
    pub done: usize,
    /// The volumes that the work makes or, once it is done, replaces: those of them that the machine does not refer
    /// to are nobody's.
    pub volumes: Vec<String>,
}

/// A step of a plan, as a later command finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// What it does, for people alone.
    pub title: String,
    /// What a later command acts by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
}

/// What a step was about to do, where a later command has to know it and nothing else remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// The machine is started again, for it ran when the command began.
    Restart,
    /// The domain is defined on this generation, the one of several that was chosen.
    Generation(u32),
    /// The domain is defined on this layer of data, which the command makes: from then on there is only an end to bring about.
    Layer(u32),
    /// The snapshot that the command names is taken out of the record: what is left of its layer is for the same command to merge.
    Forget,
    /// QEMU merges the layer `top` of the data into the layer `base` that it lies on.
    Merge {
        /// The layer that stays.
        base: u32,
        /// The layer that goes.
        top: u32,
    },
}

impl Entry {
    /// Returns the entry of a work that begins.
    pub fn new(holder: Holder, steps: Vec<Recorded>, volumes: Vec<String>) -> Self {
        Entry {
            format: FORMAT,
            holder,
            pool: None,
            connection: None,
            is_birth: false,
            only_onward: false,
            steps,
            done: 0,
            volumes,
        }
    }

    /// Returns the step that was begun last; `None` at the end.
    pub fn step(&self) -> Option<&Recorded> {
        self.steps.get(self.done)
    }

    /// Returns whether a step of the plan has that intent, done or not.
    pub fn intends(&self, intent: Intent) -> bool {
        self.steps.iter().any(|step| step.intent == Some(intent))
    }

    /// Returns where the work stands, for people: `step 2 of 5, put the boot disk into the pool`.
    pub fn place(&self) -> String {
        let title = self.step().map_or("the end", |step| &step.title);
        format!("step {} of {}, {title}", self.done + 1, self.steps.len())
    }
}
