//! The files that a generation was built from, kept in the workspace's output for as long as the generation.
//!
//! A machine runs without them. They are for `diff` and `status`: the next build overwrites what a build says of itself.

use std::fs;
use std::path::{Path, PathBuf};

use crate::build::{BuiltMachine, Sources};
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::host::Setup;
use crate::model::MachineName;
use crate::render;

/// What the system consists of and what it lacks, as the flake writes it.
const BUILT: [&str; 2] = ["closure.json", "image.json"];

const SOURCES: &str = "sources.json";

/// Returns the folder of all generations of a machine.
pub fn of_machine(setup: &Setup, name: &MachineName) -> PathBuf {
    setup.workspace.generations_dir().join(name.as_str())
}

pub fn folder(setup: &Setup, name: &MachineName, number: u32) -> PathBuf {
    of_machine(setup, name).join(number.to_string())
}

/// Keeps what a build was made from, in place of what was kept under its number before.
pub fn keep(setup: &Setup, built: &BuiltMachine) -> Result<()> {
    let folder = folder(setup, &built.machine, built.generation.number);
    file::create_private_folder(&folder)?;
    let put = |name: &str, text: Option<&str>| match text {
        Some(text) => file::replace(&folder.join(name), text),
        None => file::remove(&folder.join(name)).map(drop),
    };
    for (name, text) in &built.rendered {
        put(name, text.as_deref())?;
    }
    for name in BUILT {
        put(name, read(&built.image.folder.join(name))?.as_deref())?;
    }
    put(SOURCES, Some(&built.sources().to_text()?))
}

/// Returns the files of the flake that a kept generation was built from; `None` where that is not known.
pub fn sources(folder: &Path) -> Result<Option<Sources>> {
    Ok(read(&folder.join(SOURCES))?.and_then(|text| Sources::parse(&text)))
}

/// Returns the text of a file that a build made; `None` if there is none. Unlike what people write, it may have any length.
fn read(path: &Path) -> Result<Option<String>> {
    file::existing(fs::read_to_string(path)).explain(|| Failure::unreadable(path))
}

pub fn forget(setup: &Setup, name: &MachineName, number: u32) -> Result<()> {
    file::remove_folder(&folder(setup, name, number))
}

/// Removes what nixvm makes from a machine's files and makes again when needed: its rendered module, the link to its image, its
/// host key for ssh. A rendered module that is not nixvm's is an error.
pub fn remove_outputs(setup: &Setup, name: &MachineName) -> Result<()> {
    let workspace = &setup.workspace;
    render::remove(&workspace.rendered_dir(), name)?;
    file::remove(&workspace.build_dir().join(format!("vm-{name}")))?;
    file::remove(&workspace.known_hosts_dir().join(name.as_str())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_of_a_large_workspace_are_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let flake = dir.path().join("flake");
        fs::create_dir_all(flake.join("profiles")).unwrap();
        for number in 0..20 {
            fs::write(flake.join(format!("profiles/p{number}.nix")), "#".repeat(60 << 10)).unwrap();
        }
        let sources = Sources::of_flake(&flake).unwrap();
        let text = sources.to_text().unwrap();
        assert!(text.len() > 1 << 20);
        assert!(super::sources(dir.path()).unwrap().is_none());
        fs::write(dir.path().join(SOURCES), text).unwrap();
        assert_eq!(super::sources(dir.path()).unwrap(), Some(sources));
    }
}
