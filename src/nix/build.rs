//! The flake as nixvm uses it: which inputs it gets, and the commands run on it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Explain, Failure, Result};
use crate::exec::Command;
use crate::file;
use crate::interrupt;

use super::log::{self, Event};
use super::{daemon, reference};

pub const MISSING: &str =
    "install Nix 2.18 or newer (`./quickstart` does it), see https://nixos.org/download";

/// Where Nix may be although `PATH` does not name it; quickstart installs into the first.
const PLACES: [&str; 3] =
    ["/usr/local/bin", "/nix/var/nix/profiles/default/bin", "/run/current-system/sw/bin"];

/// The hint where Nix is not found: under cron or `env -i`, `PATH` names few folders.
pub(super) fn missing() -> String {
    match PLACES.into_iter().find(|place| Path::new(place).join("nix").exists()) {
        Some(place) => {
            format!(
                "{MISSING}; there is one in {place}, which PATH does not name, as in cron: `PATH=$PATH:{place}`"
            )
        }
        None => MISSING.to_owned(),
    }
}

/// A staged flake together with the inputs that nixvm gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flake {
    pub folder: PathBuf,
    /// The rendered machines, in Nix's store too, so that nobody writes to them while Nix reads.
    pub machines: PathBuf,
    /// A flake reference to use in place of the locked nixpkgs.
    pub nixpkgs: Option<String>,
}

impl Flake {
    fn installable(&self, attribute: &str) -> String {
        format!("{}#{attribute}", reference::of_path(&self.folder))
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = nix()
            .arg(verb)
            // A build does not rewrite the lock in the workspace, which is the user's.
            .arg("--no-write-lock-file")
            .args(["--override-input", "machines"])
            .arg(reference::of_path(&self.machines));
        if let Some(nixpkgs) = &self.nixpkgs {
            command = command.args(["--override-input", "nixpkgs", nixpkgs.as_str()]);
        }
        command
    }

    fn build_command(&self, attribute: &str, out_link: &Path) -> Command {
        self.command("build")
            .args(["--log-format", "internal-json", "--print-build-logs", "--print-out-paths"])
            .arg("--out-link")
            .arg(out_link)
            .arg(self.installable(attribute))
    }
}

/// Builds one of the flake's outputs, makes `out_link` lead to it (which protects it from the garbage collector), and passes
/// Nix's events to `watch`. Returns the path in the store: another command may soon change the link.
pub fn build(
    flake: &Flake,
    attribute: &str,
    out_link: &Path,
    mut watch: impl FnMut(Event),
) -> Result<PathBuf> {
    if let Some(folder) = out_link.parent() {
        file::create_folder(folder)?;
    }
    let built = flake.build_command(attribute, out_link).output_watched(|line| match log::parse(line) {
        Some(event) => {
            let kept = event.worth_keeping();
            watch(event);
            kept
        }
        // Lines outside the log's format come from programs or people; the rest of the format is noise.
        None => (!line.starts_with(log::MARK)).then(|| line.to_owned()),
    });
    // ^C reaches Nix too: report the request, not the status with which Nix ended.
    interrupt::check()?;
    let printed = answered(built).explain(|| {
        Failure::user(format!("cannot build `{attribute}`; nothing was changed"))
            .hint("fix the error above and run the same command again; `-vv` shows the builders' output")
    })?;
    file::give_to_owner(out_link)?;
    store_path(&printed, "build")
}

/// Makes `out_link` lead to a path in the store, which protects it from the garbage collector; returns the path.
pub fn keep(image: &Path, out_link: &Path) -> Result<PathBuf> {
    let path = fs::canonicalize(image).explain(|| Failure::unreadable(image))?;
    if fs::read_link(out_link).is_ok_and(|target| target == path) {
        return Ok(path);
    }
    answered(nix().args(["build", "--out-link"]).arg(out_link).arg(&path).output())
        .explain(|| Failure::user(format!("cannot keep {} from Nix's garbage collector", path.display())))?;
    file::give_to_owner(out_link)?;
    Ok(path)
}

pub fn develop(flake: &Flake, workspace: &Path) -> Command {
    flake.command("develop").arg(flake.installable("default")).current_dir(workspace)
}

/// Copies a folder to Nix's store and returns its path there, which later writes to the folder do not change.
pub fn add_to_store(folder: &Path) -> Result<PathBuf> {
    // Nix takes a store path named `source` for a flake's input as it is, without another copy.
    let command = nix().args(["store", "add-path", "--name", "source"]).arg(folder);
    store_path(&answered(command.output())?, "store add-path")
}

fn store_path(printed: &[u8], verb: &str) -> Result<PathBuf> {
    let path = String::from_utf8_lossy(printed).trim().to_owned();
    if path.starts_with('/') && !path.contains('\n') {
        return Ok(path.into());
    }
    Err(Failure::bug(format!("`nix {verb}` printed `{path}`, which is no path")).into())
}

/// Returns a reference to exactly the flake that `reference` leads to now: with its revision, or to its copy in the store.
pub fn pinned(reference: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct FlakeMetadata {
        path: PathBuf,
        url: String,
        locked: Locked,
    }
    #[derive(Deserialize)]
    struct Locked {
        rev: Option<String>,
    }
    let command = nix().args(["flake", "metadata", "--json", "--no-write-lock-file", reference]);
    let printed = answered(command.output())?;
    let found: FlakeMetadata = serde_json::from_slice(&printed)
        .explain(|| Failure::bug("`nix flake metadata` gave another JSON than expected"))?;
    Ok(match found.locked.rev {
        Some(_) => found.url,
        None => reference::of_path(&found.path),
    })
}

/// Locks those inputs of the flake in `folder` that its `flake.lock` does not lock yet.
pub fn lock(folder: &Path, nixpkgs: Option<&str>) -> Result<()> {
    let mut command = nix()
        .args(["flake", "lock"])
        // Otherwise Nix answers with the state of a branch within the last hour.
        .args(["--option", "tarball-ttl", "0"])
        .arg(reference::of_path(folder));
    if let Some(nixpkgs) = nixpkgs {
        command = command.args(["--override-input", "nixpkgs", nixpkgs]);
    }
    answered(command.output()).map(drop)
}

/// Explains a failure that comes from a daemon closed to this user.
fn answered<T>(result: Result<T>) -> Result<T> {
    match daemon::closed_to_all_but() {
        Some(group) if result.is_err() => result.explain(|| {
            Failure::user(format!("Nix's daemon answers only members of `{group}`"))
                .hint(daemon::joining(&group))
        }),
        _ => result,
    }
}

fn nix() -> Command {
    Command::new("nix").missing(missing()).args(["--extra-experimental-features", "nix-command flakes"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flake(nixpkgs: Option<&str>) -> Flake {
        Flake { folder: "/w/flake".into(), machines: "/w/rendered".into(), nixpkgs: nixpkgs.map(Into::into) }
    }

    #[test]
    fn a_build_names_its_inputs_by_absolute_path_and_never_writes_the_lock() {
        let command = flake(Some("path:/base")).build_command("vm-web", Path::new("/w/build/vm-web"));
        assert_eq!(
            command.to_string(),
            "nix --extra-experimental-features 'nix-command flakes' build --no-write-lock-file \
             --override-input machines path:/w/rendered --override-input nixpkgs path:/base \
             --log-format internal-json --print-build-logs --print-out-paths --out-link /w/build/vm-web path:/w/flake#vm-web"
        );
    }

    #[test]
    fn a_path_of_any_name_reaches_nix_as_one_reference() {
        let odd = Flake { folder: "/a b/é#1".into(), machines: "/a?b^%41".into(), nixpkgs: None };
        assert_eq!(
            odd.build_command("vm-web", Path::new("/out")).to_string(),
            "nix --extra-experimental-features 'nix-command flakes' build --no-write-lock-file \
             --override-input machines path:/a%3Fb%5E%2541 --log-format internal-json --print-build-logs \
             --print-out-paths --out-link /out path:/a%20b/%C3%A9%231#vm-web"
        );
        let shell = develop(&odd, Path::new("/a b")).to_string();
        assert!(shell.ends_with("path:/a%20b/%C3%A9%231#default"), "{shell}");
    }

    #[test]
    fn the_locked_nixpkgs_is_the_default() {
        assert_eq!(
            flake(None).build_command("vm-web", Path::new("/out")).to_string(),
            "nix --extra-experimental-features 'nix-command flakes' build --no-write-lock-file \
             --override-input machines path:/w/rendered --log-format internal-json --print-build-logs \
             --print-out-paths --out-link /out path:/w/flake#vm-web"
        );
    }
}
