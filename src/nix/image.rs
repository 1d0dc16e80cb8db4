//! What Nix built for a machine: the folder `vm-NAME` of the flake, read and checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Explain, Failure, Result};
use crate::model::closure::{Closure, StorePath};
use crate::model::volume::is_base_volume;
use crate::model::{MachineName, ProfileName, quote};

/// The version of `image.json` and of `closure.json` that `nix/` writes.
const FORMAT: u32 = 2;

/// The version before, which may be kept of a generation that an older nixvm made: `image.json` without a fingerprint,
/// `closure.json` without units.
const FORMER: u32 = 1;

/// A machine's image: a thin disk and the base it lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The folder that it is in.
    pub folder: PathBuf,
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
    /// SHA-256 of what makes the system, whatever number and digest this build of it has: equal means that nobody can tell two
    /// builds apart who does not read `/etc/nixvm-release`.
    pub fingerprint: String,
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
struct ImageFile {
    #[serde(rename = "format")]
    _format: u32,
    machine: String,
    profile: String,
    base: String,
    layout: Layout,
    toplevel: String,
    fingerprint: String,
    nixpkgs_revision: String,
    system: String,
    kernel: String,
    not_carried_out: Vec<String>,
}

/// `closure.json` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClosureFile {
    #[serde(rename = "format")]
    _format: u32,
    kernel: String,
    paths: Vec<PathEntry>,
    units: Option<BTreeMap<String, String>>,
}

/// A store path in `closure.json`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PathEntry {
    path: StorePath,
    nar_size: u64,
}

/// The part of `image.json` that those of profiles have too.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NotCarriedOut {
    not_carried_out: Vec<String>,
}

/// The part of any version of a file.
#[derive(Deserialize)]
struct AnyFile {
    format: u32,
}

/// Returns what a file of the image says, if it is of one of these versions.
fn parse_file<T: DeserializeOwned>(name: &str, text: &str, formats: &[u32]) -> Result<T> {
    let AnyFile { format } = serde_json::from_str(text).explain(|| not_ours(name))?;
    if !formats.contains(&format) {
        return Err(Failure::user(format!(
            "`{name}` has the format {format}, and this nixvm reads {FORMAT}"
        ))
        .hint("use the nixvm of the flake that built it: `nix run .#nixvm`, and build again")
        .into());
    }
    serde_json::from_str(text).explain(|| not_ours(name))
}

fn not_ours(name: &str) -> Failure {
    Failure::bug(format!("`{name}` is not as the flake writes it"))
}

impl Image {
    /// Returns the image in the folder `dir`, as `vm-NAME` of the flake is.
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
        let file: ImageFile = parse_file("image.json", text, &[FORMAT])?;
        if !is_base_volume(&file.base) {
            return Err(not_ours("image.json")
                .because(Failure::bug(format!("{} is no base's name", quote(&file.base))))
                .into());
        }
        Ok(Image {
            folder: dir.to_owned(),
            machine: file.machine.parse()?,
            profile: file.profile.parse()?,
            disk: dir.join("disk.qcow2"),
            base: dir.join("base.qcow2"),
            base_volume: file.base,
            layout: file.layout,
            toplevel: file.toplevel,
            fingerprint: file.fingerprint,
            nixpkgs_revision: file.nixpkgs_revision,
            system: file.system,
            kernel: file.kernel,
            not_carried_out: file.not_carried_out,
        })
    }
}

/// Returns the options and packages that the image in `dir`, a machine's or a profile's, was to have and does not.
///
/// # Errors
/// There is no `image.json`, or it is not of this version.
pub fn read_not_carried_out(dir: &Path) -> Result<Vec<String>> {
    let say = || Failure::user(format!("cannot read the image in `{}`", dir.display()));
    let text = std::fs::read_to_string(dir.join("image.json")).explain(say)?;
    Ok(parse_file::<NotCarriedOut>("image.json", &text, &[FORMAT, FORMER]).explain(say)?.not_carried_out)
}

/// Returns what the system in the image folder `dir` is made of, base and delta together.
///
/// The paths themselves may be gone: the file names them and keeps none of them in the store.
///
/// # Errors
/// There is no `closure.json`, for the image was built by an older nixvm; or it is not of this version.
pub fn read_closure(dir: &Path) -> Result<Closure> {
    let say = || Failure::user(format!("cannot read what the image in `{}` is made of", dir.display()));
    let text = std::fs::read_to_string(dir.join("closure.json"))
        .explain(|| say().hint("build it again: `nixvm build --machine NAME`"))?;
    let file: ClosureFile = parse_file("closure.json", &text, &[FORMAT, FORMER]).explain(say)?;
    let paths = file.paths.into_iter().map(|entry| (entry.path, entry.nar_size)).collect();
    Ok(Closure { kernel: file.kernel, paths, units: file.units })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    const TEXT: &str = r#"{"format": 2, "machine": "web", "fingerprint": "f", "profile": "core", "layout": "shared",
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
    fn what_is_not_carried_out_is_read_of_machines_and_profiles() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_not_carried_out(dir.path()).is_err(), "there is no image.json");
        let profile =
            r#"{"format": 1, "profile": "core", "layout": "shared", "notCarriedOut": ["services.foo.bar"]}"#;
        for text in [TEXT, profile] {
            std::fs::write(dir.path().join("image.json"), text).unwrap();
            assert_eq!(read_not_carried_out(dir.path()).unwrap(), ["services.foo.bar"]);
        }
    }

    #[test]
    fn a_version_of_another_nixvm_is_named_even_if_its_keys_differ() {
        let error = Image::parse(Path::new("/x"), r#"{"format": 3, "new": []}"#).unwrap_err();
        let report = Report::of(&error);
        assert_eq!(report.error, "`image.json` has the format 3, and this nixvm reads 2");
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

    #[test]
    fn a_closure_is_read_and_names_what_it_was_made_of() {
        let dir = tempfile::tempdir().unwrap();
        let report = || Report::of(&read_closure(dir.path()).unwrap_err());
        assert!(report().hints[0].starts_with("build it again"));
        let path = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-bash-5.2";
        let text =
            format!(r#"{{"format": 1, "kernel": "6.12.1", "paths": [{{"path": "{path}", "narSize": 7}}]}}"#);
        let write = |text: &str| std::fs::write(dir.path().join("closure.json"), text).unwrap();
        write(&text);
        let closure = read_closure(dir.path()).unwrap();
        assert_eq!(closure.kernel, "6.12.1");
        assert_eq!(closure.paths.into_iter().collect::<Vec<_>>(), [(path.parse().unwrap(), 7)]);
        assert_eq!(closure.units, None, "an older nixvm did not write them down");
        write(&text.replace("\"format\": 1", "\"format\": 2, \"units\": {\"a.service\": \"0\"}"));
        assert_eq!(read_closure(dir.path()).unwrap().units.unwrap()["a.service"], "0");
        for (from, to) in [
            ("\"kernel\"", "\"colonel\""),
            ("\"narSize\": 7", "\"narSize\": 7, \"deriver\": \"\""),
            ("\"narSize\": 7", "\"narSize\": -7"),
            ("/nix/store/", "/etc/"),
        ] {
            write(&text.replace(from, to));
            assert_eq!(report().causes[0], "`closure.json` is not as the flake writes it", "{from} -> {to}");
        }
        write(r#"{"format": 3}"#);
        assert_eq!(report().causes[0], "`closure.json` has the format 3, and this nixvm reads 2");
    }
}
