//! What nothing needs any more.

use std::path::PathBuf;

use serde::Serialize;

use crate::model::MachineName;

/// Something that nothing needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Garbage {
    /// An old build of a machine.
    Generation {
        /// The machine.
        machine: MachineName,
        /// The build's number.
        number: u32,
        /// Its boot disk.
        volume: String,
        /// Bytes that this takes in the pool.
        bytes: u64,
    },
    /// A base image that no machine's disk lies on.
    Base {
        /// Its volume.
        volume: String,
        /// Bytes that it takes in the pool.
        bytes: u64,
    },
    /// A link of Nix's to an image of a machine or profile that is no more; Nix's garbage collector frees what it leads to.
    OutLink {
        /// The link.
        #[serde(serialize_with = "crate::model::path::text")]
        path: PathBuf,
    },
    /// Files that nixvm made for a machine or a generation that is no more.
    Files {
        /// The machine.
        machine: MachineName,
        /// Their folder.
        #[serde(serialize_with = "crate::model::path::text")]
        path: PathBuf,
        /// Bytes in them.
        bytes: u64,
    },
}

impl Garbage {
    /// Returns what is freed, in bytes; `None` where only Nix knows.
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Garbage::Generation { bytes, .. }
            | Garbage::Base { bytes, .. }
            | Garbage::Files { bytes, .. } => Some(*bytes),
            Garbage::OutLink { .. } => None,
        }
    }

    /// Returns whether it is the same thing, whatever it takes by now.
    pub fn is(&self, other: &Garbage) -> bool {
        match (self, other) {
            (Garbage::Generation { volume: one, .. }, Garbage::Generation { volume: two, .. })
            | (Garbage::Base { volume: one, .. }, Garbage::Base { volume: two, .. }) => one == two,
            (Garbage::OutLink { path: one }, Garbage::OutLink { path: two })
            | (Garbage::Files { path: one, .. }, Garbage::Files { path: two, .. }) => one == two,
            _ => false,
        }
    }
}
