//! The version and settings of Nix.

use std::fmt;
use std::path::PathBuf;

use crate::error::{Explain, Failure, Result};
use crate::exec::Command;

use super::build::{MISSING, missing};

/// The oldest Nix whose flakes nixvm is tested with.
const OLDEST: Version = Version { major: 2, minor: 18 };

/// A Nix version, without its patch level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    pub fn is_supported(self) -> bool {
        self >= OLDEST
    }

    pub fn oldest() -> Self {
        OLDEST
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

pub fn version() -> Result<Version> {
    let printed = Command::new("nix").arg("--version").missing(missing()).output()?;
    let text = String::from_utf8_lossy(&printed);
    parse(&text)
        .ok_or_else(|| Failure::user(format!("`nix --version` printed no version: `{}`", text.trim())).into())
}

pub fn require() -> Result<()> {
    let version = version()?;
    if version.is_supported() {
        return Ok(());
    }
    Err(Failure::user(format!("Nix {version} is older than {OLDEST}")).hint(MISSING).into())
}

/// Returns the experimental features that nixvm needs and that are switched off.
pub fn features() -> Result<Vec<&'static str>> {
    let settings = settings()?;
    // `value` is what is in force for this call; the call itself forces `nix-command`, so only flakes are checked.
    let on = settings["experimental-features"]["value"].as_array().cloned().unwrap_or_default();
    Ok(["flakes"].into_iter().filter(|feature| !on.iter().any(|f| f == feature)).collect())
}

/// Returns the folder in which Nix builds, where a setting or its version determines one.
pub fn build_folder() -> Option<PathBuf> {
    let set = settings().ok()?["build-dir"]["value"].as_str().map(PathBuf::from);
    // Since 2.30 Nix has a folder of its own; before, it took the builder's `TMPDIR`.
    let own =
        || version().ok().filter(|it| (it.major, it.minor) >= (2, 30)).map(|_| "/nix/var/nix/builds".into());
    set.or_else(own)
}

/// Returns the parts of Nix's isolation of builders that are switched off, as lines of nix.conf.
pub fn isolation_off() -> Result<Vec<&'static str>> {
    Ok(off(&settings()?, rustix::process::geteuid().is_root()))
}

/// Only root's Nix builds without a daemon, and so needs build users of its own.
fn off(settings: &serde_json::Value, root: bool) -> Vec<&'static str> {
    let sandbox = settings["sandbox"]["value"] == false;
    let as_root = root && settings["build-users-group"]["value"] == "";
    let off = [(sandbox, "sandbox = false"), (as_root, "build-users-group =")];
    off.into_iter().filter(|(is_off, _)| *is_off).map(|(_, setting)| setting).collect()
}

fn settings() -> Result<serde_json::Value> {
    // Without this option, a Nix in which the feature is off could not even answer.
    let printed = Command::new("nix")
        .args(["--extra-experimental-features", "nix-command", "config", "show", "--json"])
        .missing(missing())
        .output()?;
    serde_json::from_slice(&printed).explain(|| Failure::user("`nix config show --json` printed no JSON"))
}

fn parse(text: &str) -> Option<Version> {
    // "nix (Nix) 2.26.3"; Lix and Determinate put their own words in between.
    let number = text.split_whitespace().rev().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = number.split(['.', '-', '+', '_']);
    let mut digits =
        || parts.next()?.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    Some(Version { major: digits()?, minor: digits()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isolation_that_is_off_is_named_as_it_is_written() {
        let settings = |sandbox: serde_json::Value, group: &str| serde_json::json!({ "sandbox": { "value": sandbox }, "build-users-group": { "value": group } });
        assert_eq!(off(&settings(true.into(), "nixbld"), true), [""; 0]);
        assert_eq!(off(&settings(false.into(), ""), true), ["sandbox = false", "build-users-group ="]);
        assert_eq!(off(&settings("relaxed".into(), ""), false), [""; 0]);
        assert_eq!(off(&serde_json::json!({}), true), [""; 0], "a Nix that says neither");
    }

    #[test]
    fn versions_as_they_are_printed() {
        let seen = |text| parse(text).map(|v| (v.to_string(), v.is_supported()));
        assert_eq!(seen("nix (Nix) 2.26.3\n"), Some(("2.26".into(), true)));
        assert_eq!(seen("nix (Nix) 2.8.0\n"), Some(("2.8".into(), false)));
        assert_eq!(seen("nix (Nix) 2.18pre20230901_abc\n"), Some(("2.18".into(), true)));
        assert_eq!(seen("nix (Determinate Nix 3.6.2) 2.29.0\n"), Some(("2.29".into(), true)));
        assert_eq!(seen("command not found"), None);
    }
}
