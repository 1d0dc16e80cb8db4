//! What Nix built for a machine: the folder `vm-NAME` of the flake, read and checked.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Explain, Failure, Result};
use crate::model::{MachineName, ProfileName, quote};

/// The version of `image.json` that this nixvm reads; `nix/` writes it.
const FORMAT: u32 = 1;

/// A machine's image: a thin disk and the base it lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The machine it was built for.
    pub machine: MachineName,
    /// The profile whose base it shares.
    pub profile: ProfileName,
    /// The thin disk: a qcow2 overlay that names `base_volume`, relative to itself, as its backing file.
    pub disk: PathBuf,
    /// The base, qcow2.
    pub base: PathBuf,
    /// The name that the base must have in the pool.
    pub base_volume: String,
    /// How the disk is laid out.
    pub layout: Layout,
    /// The store path of the system inside.
    pub toplevel: String,
    /// The nixpkgs it was built from.
    pub nixpkgs_revision: String,
    /// Nix's name of its architecture.
    pub system: String,
    /// The kernel's version.
    pub kernel: String,
    /// Options that modules set and the base system does not carry out; none with real nixpkgs.
    pub not_carried_out: Vec<String>,
}

/// How a machine's disk relates to its profile's base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Kernel, initrd and the profile's closure are the base's.
    Shared,
    /// The machine has all of its closure to itself.
    Whole,
}

/// `image.json` as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(rename = "format")]
    _format: u32,
    machine: String,
    profile: String,
    base: String,
    layout: Layout,
    toplevel: String,
    nixpkgs_revision: String,
    system: String,
    kernel: String,
    not_carried_out: Vec<String>,
}

/// The part of any version of `image.json`.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

impl Image {
    /// Returns the image in the folder `dir`, an out link of `vm-NAME`.
    ///
    /// # Errors
    /// A file is missing, or `image.json` is not of this version.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("image.json");
        let say = || Failure::user(format!("cannot read the image in `{}`", dir.display()));
        let text = std::fs::read_to_string(&path).explain(say)?;
        let image = Self::parse(dir, &text).explain(say)?;
        for file in [&image.disk, &image.base] {
            std::fs::metadata(file).explain(|| say().hint("build it again: `nixvm build --machine NAME`"))?;
        }
        Ok(image)
    }

    fn parse(dir: &Path, text: &str) -> Result<Self> {
        let bug = || Failure::bug("`image.json` is not as the flake writes it");
        let Versioned { format } = serde_json::from_str(text).explain(bug)?;
        if format != FORMAT {
            return Err(Failure::user(format!(
                "`image.json` has the format {format}, and this nixvm reads {FORMAT}"
            ))
            .hint("use the nixvm of the flake that built it: `nix run .#nixvm`, and build again")
            .into());
        }
        let file: File = serde_json::from_str(text).explain(bug)?;
        if !is_base_volume(&file.base) {
            return Err(bug()
                .because(Failure::bug(format!("{} is no base's name", quote(&file.base))))
                .into());
        }
        Ok(Image {
            machine: file.machine.parse()?,
            profile: file.profile.parse()?,
            disk: dir.join("disk.qcow2"),
            base: dir.join("base.qcow2"),
            base_volume: file.base,
            layout: file.layout,
            toplevel: file.toplevel,
            nixpkgs_revision: file.nixpkgs_revision,
            system: file.system,
            kernel: file.kernel,
            not_carried_out: file.not_carried_out,
        })
    }
}

/// Returns whether `name` is that of a base in a pool: `nixvm-base-`, a store path's hash, `.qcow2`.
pub fn is_base_volume(name: &str) -> bool {
    let hash = name.strip_prefix("nixvm-base-").and_then(|rest| rest.strip_suffix(".qcow2"));
    hash.is_some_and(|hash| {
        hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    const TEXT: &str = r#"{"format": 1, "machine": "web", "profile": "core", "layout": "shared",
        "base": "nixvm-base-0123456789abcdfghijklmnpqrsvwxyz.qcow2", "toplevel": "/nix/store/x", "nixpkgsRevision": "8eeec",
        "system": "x86_64-linux", "kernel": "6.12.1", "notCarriedOut": ["services.foo.bar"]}"#;

    #[test]
    fn an_image_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("image.json"), TEXT).unwrap();
        assert!(Image::read(dir.path()).is_err(), "the disks are missing");
        for name in ["disk.qcow2", "base.qcow2"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let image = Image::read(dir.path()).unwrap();
        assert_eq!((image.machine.as_str(), image.layout), ("web", Layout::Shared));
        assert_eq!(image.base, dir.path().join("base.qcow2"));
        assert_eq!(image.not_carried_out, ["services.foo.bar"]);
    }

    #[test]
    fn a_version_of_another_nixvm_is_named_even_if_its_keys_differ() {
        let error = Image::parse(Path::new("/x"), r#"{"format": 2, "new": []}"#).unwrap_err();
        let report = Report::of(&error);
        assert_eq!(report.error, "`image.json` has the format 2, and this nixvm reads 1");
        assert_eq!(report.exit_code, 1);
    }

    #[test]
    fn keys_and_names_that_do_not_belong_are_refused() {
        for (from, to) in [
            ("\"kernel\"", "\"colonel\""),
            ("nixvm-base-0123", "../nixvm-base-0123"),
            ("wxyz.qcow2", "wxyz"),
            ("\"web\"", "\"Web\""),
            ("\"shared\"", "\"half\""),
        ] {
            assert!(Image::parse(Path::new("/x"), &TEXT.replace(from, to)).is_err(), "{from} -> {to}");
        }
    }
}
