//! Numbered builds of a machine.

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Counted from 1.
    pub number: u32,
    /// SHA-256, in hexadecimal, of everything the build was made from: the machine's files, modules, profiles, nixpkgs.
    pub digest: String,
}
