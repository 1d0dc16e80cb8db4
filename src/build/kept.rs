//! What a generation was made from, kept beside the workspace's other output for as long as the generation is.
//!
//! A machine runs without it. It is for `diff` and `status`: what a build says of itself is gone once there is a new one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::build::{BuiltMachine, Sources};
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::host::Setup;
use crate::model::MachineName;
use crate::render;

/// What the system is made of and what it lacks, as the flake writes it.
const BUILT: [&str; 2] = ["closure.json", "image.json"];

/// The files of the flake that it was made from.
const SOURCES: &str = "sources.json";

/// Returns the folder of a machine's generations.
pub fn of_machine(setup: &Setup, name: &MachineName) -> PathBuf {
    setup.workspace.generations_dir().join(name.as_str())
}

/// Returns the folder of one generation.
pub fn folder(setup: &Setup, name: &MachineName, number: u32) -> PathBuf {
    of_machine(setup, name).join(number.to_string())
}

/// Copies what a build was made from, in place of what is there of one with its number.
///
/// # Errors
/// The workspace's output cannot be written.
pub fn keep(setup: &Setup, built: &BuiltMachine) -> Result<()> {
    let folder = folder(setup, &built.machine, built.generation.number);
    file::create_private_folder(&folder)?;
    for (name, text) in &built.rendered {
        match text {
            Some(text) => file::replace(&folder.join(name), text)?,
            None => drop(file::remove(&folder.join(name))?),
        }
    }
    for name in BUILT {
        copy(&built.image.folder.join(name), &folder.join(name))?;
    }
    file::replace(&folder.join(SOURCES), &built.sources.to_text()?)
}

/// Returns the files that a kept generation was made from; `None` where that is not known.
///
/// # Errors
/// The file cannot be read.
pub fn sources(folder: &Path) -> Result<Option<Sources>> {
    Ok(file::read(&folder.join(SOURCES))?.and_then(|text| Sources::parse(&text)))
}

/// Removes what is kept of a generation.
///
/// # Errors
/// It cannot be removed.
pub fn forget(setup: &Setup, name: &MachineName, number: u32) -> Result<()> {
    remove_folder(&folder(setup, name, number))
}

/// Removes what is made of a machine's files and made anew when it is needed: its rendered module, the link to its image,
/// its host key for ssh.
///
/// # Errors
/// Something of it cannot be removed, or the rendered module is not nixvm's.
pub fn forget_made(setup: &Setup, name: &MachineName) -> Result<()> {
    let workspace = &setup.workspace;
    render::remove(&workspace.rendered_dir(), name)?;
    file::remove(&workspace.build_dir().join(format!("vm-{name}")))?;
    file::remove(&workspace.known_hosts_dir().join(name.as_str())).map(drop)
}

/// Removes a folder of nixvm's own output with all that is in it; one that is not there is removed already.
///
/// # Errors
/// It cannot be removed.
pub fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).explain(|| Failure::user(format!("cannot remove `{}`", folder.display())))
        }
        _ => Ok(()),
    }
}

/// Makes `to` what `from` is; absent, if that is absent.
fn copy(from: &Path, to: &Path) -> Result<()> {
    match fs::read_to_string(from) {
        Ok(text) => file::replace(to, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => file::remove(to).map(drop),
        Err(error) => Err(error).explain(|| Failure::user(format!("cannot read `{}`", from.display()))),
    }
}
