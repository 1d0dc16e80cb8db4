//! What an archive says about itself.

use serde::{Deserialize, Serialize};

use super::{ArchiveName, Checksum, Member};
use crate::model::{Generation, MachineId, MachineName, ProfileName, Timestamp};

/// What an archive holds, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The machine, and the moment.
    pub about: About,
    /// Every member besides the manifest, in the archive's order.
    pub members: Vec<Member>,
}

impl Manifest {
    /// Returns the bytes of all members.
    pub(super) fn size(&self) -> u64 {
        self.members.iter().map(|member| member.size).sum()
    }
}

/// The machine that was backed up, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The machine.
    pub machine: MachineName,
    /// Its profile.
    pub profile: ProfileName,
    /// Its id, which is its domain's UUID.
    pub machine_id: MachineId,
    /// The moment its data is of.
    pub created: Timestamp,
    /// The version of the nixvm that wrote the archive.
    pub nixvm: String,
    /// The build that it ran.
    pub generation: Generation,
    /// The nixpkgs of that build.
    pub nixpkgs_revision: String,
    /// What the data is worth.
    pub state: State,
    /// The archive that this one only adds to; `None` where it holds all data.
    pub parent: Option<Parent>,
    /// The checkpoint that a further archive can begin from.
    pub checkpoint: Option<String>,
}

/// What the machine did while its data was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was off.
    Off,
    /// It ran, with its file systems frozen at that moment: the data is consistent.
    Frozen,
    /// It ran: the data is what a power cut at that moment would have left.
    Running,
}

/// The archive before an incremental one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its file.
    pub archive: ArchiveName,
    /// The digest of its manifest, and so of all that is in it.
    pub manifest: Checksum,
}
