//! The contents of a journal.

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
    pub holder: Holder,
    /// The pool of its volumes; `None` where an older nixvm wrote the journal.
    #[serde(default)]
    pub pool: Option<PoolName>,
    /// Its libvirt; likewise.
    #[serde(default)]
    pub connection: Option<Connection>,
    /// Whether there was no domain when the work began: then it made all of its volumes.
    pub is_birth: bool,
    /// Whether the work, once begun, can only be finished: a deletion cannot be undone.
    pub only_onward: bool,
    pub steps: Vec<Recorded>,
    pub done: usize,
    /// The volumes that the work makes and, once it is done, replaces. Those that the machine does not refer to are
    /// orphaned.
    pub volumes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// For people alone.
    pub title: String,
    /// For the command that continues the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
}

/// The intent of a step, where a later command has to know it and libvirt cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// Start the machine again, which ran when the command began.
    Restart,
    /// Define the domain on this generation, which was chosen among several.
    Generation(u32),
    /// Define the domain on this layer of data, which the command makes: from then on the work can only be finished.
    Layer(u32),
    /// Take the snapshot out of the record: only the same command can merge its layer after that.
    Forget,
    /// Merge the layer `top` of the data into the layer `base` below it.
    Merge { base: u32, top: u32 },
}

impl Entry {
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

    /// Returns the step that was begun last; `None` after the last one.
    pub fn step(&self) -> Option<&Recorded> {
        self.steps.get(self.done)
    }

    pub fn intends(&self, intent: Intent) -> bool {
        self.steps.iter().any(|step| step.intent == Some(intent))
    }

    /// Returns the progress for people: `step 2 of 5, put the boot disk into the pool`.
    pub fn place(&self) -> String {
        let title = self.step().map_or("the end", |step| &step.title);
        format!("step {} of {}, {title}", self.done + 1, self.steps.len())
    }
}
