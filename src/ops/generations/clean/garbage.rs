//! One thing that `clean` can delete.

use std::path::PathBuf;

use serde::Serialize;

use crate::model::MachineName;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Garbage {
    /// An old build of a machine.
    Generation { machine: MachineName, number: u32, volume: String, bytes: u64 },
    /// A base image that no machine's disk lies on.
    Base { volume: String, bytes: u64 },
    /// Nix's link to an image of a machine or profile that no longer exists; Nix's garbage collector then frees the image.
    OutLink {
        #[serde(serialize_with = "crate::model::path::text")]
        path: PathBuf,
    },
    /// A file or folder that nixvm made for a machine or a generation that no longer exists.
    Files {
        machine: MachineName,
        #[serde(serialize_with = "crate::model::path::text")]
        path: PathBuf,
        bytes: u64,
    },
}

impl Garbage {
    /// Returns how many bytes deleting it frees; `None` where only Nix knows.
    pub fn bytes(&self) -> Option<u64> {
        match self {
            Garbage::Generation { bytes, .. }
            | Garbage::Base { bytes, .. }
            | Garbage::Files { bytes, .. } => Some(*bytes),
            Garbage::OutLink { .. } => None,
        }
    }

    /// Returns whether it is the same thing, whatever its size is by now.
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
