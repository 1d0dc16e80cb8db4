//! Files in the workspace's output that belong to machines, generations and profiles that no longer exist.
//!
//! A machine exists as long as it has a domain or is declared.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::config;
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::host::Setup;
use crate::journal::{self, WorkState};
use crate::model::record::Metadata;
use crate::model::{MachineName, ProfileName};

use super::garbage::Garbage;

pub fn files(setup: &Setup, records: &[Metadata]) -> Result<Vec<Garbage>> {
    let workspace = &setup.workspace;
    // Of any workspace: one that was moved, or mounted elsewhere, is recorded under another path, and files kept in vain are
    // a few kilobytes.
    let domains: BTreeSet<&MachineName> = records.iter().map(|record| &record.machine).collect();
    let lives = |name: &MachineName| domains.contains(name) || config::exists(workspace, name);
    let mut found = Vec::new();
    let profiles = workspace.profile_names()?;
    for (path, name) in entries(&workspace.build_dir())? {
        let machine = name.strip_prefix("vm-").and_then(|name| name.parse::<MachineName>().ok());
        let profile = name.strip_prefix("profile-").and_then(|name| name.parse::<ProfileName>().ok());
        let stale = machine.is_some_and(|name| !lives(&name))
            || profile.is_some_and(|name| !profiles.contains(&name));
        if stale && path.is_symlink() {
            found.push(Garbage::OutLink { path });
        }
    }
    let files = |machine: &MachineName, path: PathBuf| -> Result<Garbage> {
        Ok(Garbage::Files { machine: machine.clone(), bytes: size(&path)?, path })
    };
    let locks = workspace.work_dir();
    for (folder, suffix) in
        [(workspace.rendered_dir(), ""), (workspace.known_hosts_dir(), ""), (locks.clone(), ".lock")]
    {
        for (path, name) in entries(&folder)? {
            let machine = name.strip_suffix(suffix).and_then(|name| name.parse().ok());
            let Some(machine) = machine.filter(|machine| !lives(machine)) else { continue };
            // A lock that is held may be of a machine that is being created.
            if folder != locks || journal::state(&locks, &machine)? == WorkState::Idle {
                found.push(files(&machine, path)?);
            }
        }
    }
    for (path, name) in entries(&workspace.generations_dir())? {
        let Ok(machine) = name.parse::<MachineName>() else { continue };
        if !domains.contains(&machine) {
            found.push(files(&machine, path)?);
            continue;
        }
        let known = |number: u32| {
            records.iter().any(|record| record.machine == machine && record.generations.get(number).is_some())
        };
        for (path, number) in entries(&path)? {
            if number.parse().is_ok_and(|number| !known(number)) {
                found.push(files(&machine, path)?);
            }
        }
    }
    Ok(found)
}

/// Returns the paths and names in a folder; none where it does not exist.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let say = || Failure::unreadable(folder);
    let Some(listed) = file::existing(fs::read_dir(folder)).explain(say)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry.explain(say)?;
        found.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
    }
    found.sort();
    Ok(found)
}

fn size(folder: &Path) -> Result<u64> {
    let say = || Failure::unreadable(folder);
    let mut bytes = 0;
    for entry in WalkDir::new(folder) {
        let entry = entry.explain(say)?;
        if entry.file_type().is_file() {
            bytes += entry.metadata().explain(say)?.len();
        }
    }
    Ok(bytes)
}
