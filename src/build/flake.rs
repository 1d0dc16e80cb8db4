//! The copies of the workspace's flake and of the rendered machines that Nix builds from.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::host::{Setup, Watch};
use crate::nix::{self, Flake, Staged};

use super::{base, inputs};

/// Copies the workspace's flake, with all of its inputs locked, and rendered machines to Nix's store; returns the copies.
/// `render` writes the machines into the folder that it is given; it also gets the SHA-256 of flake and nixpkgs in hexadecimal.
///
/// Nothing in the store changes. So Nix builds what was read here, whatever other commands and editors write meanwhile.
pub fn prepare(
    setup: &Setup,
    render: impl FnOnce(&Path, &str) -> Result<()>,
    watch: &dyn Watch,
) -> Result<Flake> {
    let nixpkgs = nixpkgs(setup)?;
    if let Some(reference) = nixpkgs.as_deref().filter(|_| setup.nixpkgs.is_none()) {
        watch.note(&format!("building from the nixpkgs that output/base names: {reference}"));
    }
    let mut staged = stage(setup)?;
    inputs::complete(setup, &mut staged, nixpkgs.as_deref(), watch)?;
    if !staged.left_out.is_empty() {
        let names: Vec<String> = staged.left_out.iter().map(|path| path.display().to_string()).collect();
        watch.note(&format!("not given to Nix, because it looks like a secret: {}", names.join(", ")));
    }
    // A folder or a branch may hold something else by the time that Nix builds, and at the next build.
    let pin = |nixpkgs: String| {
        nix::pinned(&nixpkgs).explain(|| {
            Failure::user(format!("cannot read the nixpkgs `{nixpkgs}`; nothing was changed"))
                .hint("fix the error of Nix above: the nixpkgs is named by `--nixpkgs`, NIXVM_NIXPKGS or output/base")
        })
    };
    let nixpkgs = nixpkgs.map(pin).transpose()?;
    let digest = Sha256::digest(format!("{}\n{}", staged.digest(), nixpkgs.as_deref().unwrap_or("locked")));
    let rendered = file::private_folder_in(&setup.workspace.output_dir())?;
    render(rendered.path(), &format!("{digest:x}"))?;
    let machines = nix::add_to_store(rendered.path())?;
    let folder = nix::add_to_store(staged.folder())?;
    file::give_folder_to_owner(rendered.path())?;
    publish(setup, rendered.path())?;
    staged.publish(&setup.workspace.flake_dir())?;
    Ok(Flake { folder, machines, nixpkgs })
}

/// Copies rendered machines to `output/rendered` for people to look at; other machines there stay.
fn publish(setup: &Setup, rendered: &Path) -> Result<()> {
    let target = setup.workspace.rendered_dir();
    file::create_private_folder(&target)?;
    let cannot = || Failure::unreadable(rendered);
    for entry in fs::read_dir(rendered).explain(cannot)? {
        let entry = entry.explain(cannot)?;
        file::replace_folder(&entry.path(), &target.join(entry.file_name()))?;
    }
    Ok(())
}

pub fn stage(setup: &Setup) -> Result<Staged> {
    let output = setup.workspace.output_dir();
    nix::require_own_output(setup.workspace.root(), &output)?;
    nix::stage(setup.workspace.root(), &output)
}

/// Returns the flake reference that replaces the locked nixpkgs: the one given to this command, or else that of `output/base`.
pub fn nixpkgs(setup: &Setup) -> Result<Option<String>> {
    match &setup.nixpkgs {
        Some(given) => Ok(Some(given.clone())),
        None => base::chosen(&setup.workspace, &setup.cache, &setup.choices),
    }
}
