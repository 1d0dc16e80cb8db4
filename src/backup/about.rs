//! The description of an archive, without its file format.

use serde::{Deserialize, Serialize};

use super::{ArchiveName, Checksum, Member};
use crate::model::{Generation, MachineId, MachineName, ProfileName, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub about: About,
    pub members: Vec<Member>,
}

impl Manifest {
    pub(super) fn size(&self) -> u64 {
        self.members.iter().map(|member| member.size).sum()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub machine: MachineName,
    pub profile: ProfileName,
    pub machine_id: MachineId,
    /// The moment at which its data was read.
    pub created: Timestamp,
    pub nixvm: String,
    pub generation: Generation,
    pub nixpkgs_revision: String,
    pub state: State,
    /// The archive to which this one only adds; `None` where it holds all data.
    pub parent: Option<Parent>,
    /// The checkpoint that a further archive can begin from.
    pub checkpoint: Option<String>,
}

/// The machine's state while its data was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Off,
    /// It ran, with its file systems frozen at that moment: the data is consistent.
    Frozen,
    /// It ran: the data is what a power cut at that moment would have left.
    Running,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    pub archive: ArchiveName,
    /// The digest of its manifest, and so of all that is in it.
    pub manifest: Checksum,
}
