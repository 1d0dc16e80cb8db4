//! The folder that nixvm works in.

use std::fs;
use std::path::{Path, PathBuf};

use super::Trust;
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::model::suggest::did_you_mean;
use crate::model::{MachineName, ProfileName, quote};

/// The profiles that every workspace has.
const NIXVMS_OWN: [&str; 5] = ["base", "claude", "core", "dev", "docker"];

/// A folder with a `flake.nix` and `profiles/`, and in it `machines/` and `output/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Absolute, without symbolic links, and UTF-8: it is written into a domain's metadata.
    root: String,
}

impl Workspace {
    /// Returns the nearest workspace, from the folder `start` upwards.
    pub fn find(start: &Path, trust: &Trust) -> Result<Self> {
        let start = canonical(start)?;
        match start.ancestors().find(|folder| is_workspace(folder)) {
            Some(root) => {
                let workspace = Self::new(root)?;
                trust.check(root, &start)?;
                Ok(workspace)
            }
            None => {
                Err(none(&format!("neither {} nor a folder above it is a workspace", start.display())).into())
            }
        }
    }

    pub fn at(root: &Path) -> Result<Self> {
        let root = canonical(root)?;
        if is_workspace(&root) {
            Self::new(&root)
        } else {
            Err(none(&format!("{} is not a workspace", root.display())).into())
        }
    }

    fn new(root: &Path) -> Result<Self> {
        match root.to_str() {
            Some(text) if text.contains(char::is_control) => {
                Err(Failure::user(format!("the path {} holds a control character", quote(text)))
                    .hint("move the workspace to a folder whose path has none, such as a line break")
                    .into())
            }
            Some(root) => Ok(Workspace { root: root.to_owned() }),
            None => Err(Failure::user(format!(
                "the path {} is not UTF-8",
                quote(root.as_os_str().as_encoded_bytes())
            ))
            .hint("move the workspace to a folder whose path is")
            .into()),
        }
    }

    /// Absolute and without symbolic links.
    pub fn root(&self) -> &Path {
        Path::new(&self.root)
    }

    pub fn as_str(&self) -> &str {
        &self.root
    }

    pub fn machines_dir(&self) -> PathBuf {
        self.root().join("machines")
    }

    pub fn machine_dir(&self, machine: &MachineName) -> PathBuf {
        self.machines_dir().join(machine.as_str())
    }

    pub fn profiles_dir(&self) -> PathBuf {
        self.root().join("profiles")
    }

    pub fn profile_file(&self, profile: &ProfileName) -> PathBuf {
        self.profiles_dir().join(format!("{profile}.nix"))
    }

    /// Everything in it can be made again, except backups.
    pub fn output_dir(&self) -> PathBuf {
        self.root().join("output")
    }

    /// The copy of the flake that Nix builds.
    pub fn flake_dir(&self) -> PathBuf {
        self.output_dir().join("flake")
    }

    /// The rendered machines, the flake's input `machines`.
    pub fn rendered_dir(&self) -> PathBuf {
        self.output_dir().join("rendered")
    }

    /// Nix's out links.
    pub fn build_dir(&self) -> PathBuf {
        self.output_dir().join("build")
    }

    /// Locks and journals: who works on which machine.
    pub fn work_dir(&self) -> PathBuf {
        self.output_dir().join("work")
    }

    /// The sources of machines' generations.
    pub fn generations_dir(&self) -> PathBuf {
        self.output_dir().join("generations")
    }

    /// The host keys that `ssh` pins.
    pub fn known_hosts_dir(&self) -> PathBuf {
        self.output_dir().join("known_hosts")
    }

    /// Public keys by which `ssh` chooses among an agent's keys.
    pub fn keys_dir(&self) -> PathBuf {
        self.output_dir().join("keys")
    }

    pub fn backups_dir(&self) -> PathBuf {
        self.output_dir().join("backups")
    }

    pub fn exports_dir(&self) -> PathBuf {
        self.output_dir().join("exports")
    }

    /// Records which archives were made in this workspace: one empty file each, named after the digest of the archive's
    /// manifest.
    pub fn made_archives_dir(&self) -> PathBuf {
        self.output_dir().join("archives")
    }

    /// The file that names the nixpkgs to build from, where it is not the locked one.
    pub fn base_file(&self) -> PathBuf {
        self.output_dir().join("base")
    }

    /// Returns the names of all profiles, sorted: every `profiles/NAME.nix` whose name can be one, and nixvm's own.
    pub fn profile_names(&self) -> Result<Vec<ProfileName>> {
        let mut names: Vec<ProfileName> = file_names(&self.profiles_dir())?
            .iter()
            .filter_map(|name| name.strip_suffix(".nix")?.parse().ok())
            .collect();
        // A workspace made from the template gets its modules and profiles from a flake input.
        if !self.root().join("modules").is_dir() {
            names.extend(NIXVMS_OWN.iter().filter_map(|name| name.parse().ok()));
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    pub fn check_profile(&self, profile: &ProfileName) -> Result<()> {
        let names = self.profile_names()?;
        if names.contains(profile) {
            return Ok(());
        }
        let names: Vec<&str> = names.iter().map(ProfileName::as_str).collect();
        let failure = Failure::user(format!("there is no profile `{profile}`"));
        Err(match did_you_mean(profile.as_str(), names.iter().copied()) {
            Some(meant) => failure.hint(format!("did you mean `{meant}`? `nixvm list-profiles` lists all")),
            None if names.is_empty() => {
                failure.hint(format!("there is none in {}", self.profiles_dir().display()))
            }
            None => failure.hint(format!("the profiles are {}", names.join(", "))),
        }
        .into())
    }
}

/// Returns the names in a folder that are UTF-8; none if the folder does not exist.
pub(super) fn file_names(folder: &Path) -> Result<Vec<String>> {
    let cannot = || Failure::user(format!("cannot read the folder {}", folder.display()));
    let Some(entries) = file::existing(fs::read_dir(folder)).explain(cannot)? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.explain(cannot)?.file_name().into_string().ok());
    }
    Ok(names)
}

fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize().explain(|| Failure::user(format!("cannot enter {}", path.display())))
}

fn is_workspace(folder: &Path) -> bool {
    folder.join("flake.nix").is_file() && folder.join("profiles").is_dir()
}

fn none(message: &str) -> Failure {
    Failure::user(message).hint("a workspace has a flake.nix and profiles/; go to one, name it with `-C DIR`, or make one with `nix flake init -t PATH-OF-NIXVM`")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::error::Report;

    /// Returns a workspace with the profiles `base`, `core` and `docker`; it lasts as long as the folder.
    pub(in crate::config) fn workspace() -> (tempfile::TempDir, Workspace) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("flake.nix"), "{ }").unwrap();
        fs::create_dir(dir.path().join("profiles")).unwrap();
        for name in ["base.nix", "core.nix", "docker.nix", "_common.nix", "README.md"] {
            fs::write(dir.path().join("profiles").join(name), "{ }").unwrap();
        }
        let workspace = Workspace::at(dir.path()).unwrap();
        (dir, workspace)
    }

    #[test]
    fn it_is_found_from_below() {
        let (dir, workspace) = workspace();
        let below = dir.path().join("machines/web");
        fs::create_dir_all(&below).unwrap();
        let trust = Trust { users: vec![rustix::process::geteuid().as_raw()], workspaces: Vec::new() };
        assert_eq!(Workspace::find(&below, &trust).unwrap(), workspace);
        assert!(Workspace::at(&below).is_err());
        let elsewhere = tempfile::tempdir().unwrap();
        let report = Report::of(&Workspace::find(elsewhere.path(), &trust).unwrap_err());
        assert!(report.error.contains("nor a folder above it is a workspace"));
        assert!(report.hints[0].contains("-C DIR"));
        assert!(Workspace::find(&elsewhere.path().join("missing"), &trust).is_err());
    }

    #[test]
    fn a_path_that_no_line_and_no_xml_can_hold_is_refused() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &[u8]| {
            let root = dir.path().join(std::ffi::OsStr::from_bytes(name));
            fs::create_dir_all(root.join("profiles")).unwrap();
            fs::write(root.join("flake.nix"), "{ }").unwrap();
            Workspace::at(&root).map_err(|error| Report::of(&error))
        };
        for (name, why) in [
            (&b"a\nb"[..], "a control character"),
            (b"a\x1bb", "a control character"),
            (b"a\xffb", "is not UTF-8"),
        ] {
            let report = at(name).unwrap_err();
            assert!(report.error.contains(why) && report.hints.len() == 1, "{report:?}");
            assert!(!report.error.contains(['\n', '\x1b']), "{report:?}");
        }
        for name in ["a b", "é#?%41", r#"\"'&+=~$"#, "-dash"] {
            at(name.as_bytes()).unwrap();
        }
    }

    #[test]
    fn an_unknown_profile_is_met_with_the_nearest() {
        let (dir, workspace) = workspace();
        assert_eq!(
            workspace.profile_names().unwrap().len(),
            NIXVMS_OWN.len(),
            "those of the template's input"
        );
        fs::create_dir(dir.path().join("modules")).unwrap();
        let names = workspace.profile_names().unwrap();
        assert_eq!(names.iter().map(ProfileName::as_str).collect::<Vec<_>>(), ["base", "core", "docker"]);
        workspace.check_profile(&"core".parse().unwrap()).unwrap();
        let hint = |name: &str| {
            Report::of(&workspace.check_profile(&name.parse().unwrap()).unwrap_err()).hints.concat()
        };
        assert!(hint("dokcer").starts_with("did you mean `docker`?"));
        assert_eq!(hint("kubernetes"), "the profiles are base, core, docker");
    }
}
