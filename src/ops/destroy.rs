//! `destroy` and `purge`: the only operations that delete data, and only what they name.

use serde::Serialize;

use crate::config;
use crate::error::{Failure, Result};
use crate::hypervisor::Hypervisor;
use crate::model::{MachineName, volume};
use crate::render;

use super::deploy::open_pool;
use super::{Setup, Watch};

/// What was deleted.
#[derive(Debug, Clone, Serialize)]
pub struct Destroyed {
    /// The machine.
    pub machine: MachineName,
    /// Whether it had a domain.
    pub domain: bool,
    /// Its volumes that are gone.
    pub volumes: Vec<String>,
    /// Whether `machines/NAME` is gone too.
    pub files: bool,
}

/// Deletes a machine's domain and volumes; `machines/NAME` stays.
///
/// # Errors
/// There is neither a domain nor a volume of that machine, the domain is not nixvm's, or libvirt refuses.
pub fn destroy(setup: &Setup, name: &MachineName, watch: &dyn Watch) -> Result<Destroyed> {
    let host = setup.hypervisor()?;
    let destroyed = clear(setup, &host, name, watch)?;
    if !destroyed.domain && destroyed.volumes.is_empty() {
        return Err(nothing(&host, name));
    }
    Ok(destroyed)
}

/// Deletes a machine's domain, volumes and `machines/NAME`.
///
/// # Errors
/// There is nothing of that name at all, the domain is not nixvm's, libvirt refuses, or the folder cannot be deleted.
pub fn purge(setup: &Setup, name: &MachineName, watch: &dyn Watch) -> Result<Destroyed> {
    let host = setup.hypervisor()?;
    let declared = config::exists(&setup.workspace, name);
    let destroyed = clear(setup, &host, name, watch)?;
    if !declared && !destroyed.domain && destroyed.volumes.is_empty() {
        return Err(nothing(&host, name));
    }
    if declared {
        // First what the flake offers, or it would go on offering a machine that is no more.
        render::remove(&setup.workspace.rendered_dir(), name)?;
        config::remove(&setup.workspace, name)?;
        watch.done(&format!("Deleted {}", setup.workspace.machine_dir(name).display()));
    }
    Ok(Destroyed { files: declared, ..destroyed })
}

/// Deletes what libvirt has of a machine. The domain goes last: killed half way, the machine is still listed and the same command finishes.
fn clear(setup: &Setup, host: &Hypervisor, name: &MachineName, watch: &dyn Watch) -> Result<Destroyed> {
    let domain = host.find(name)?.map(|_| host.own(name)).transpose()?;
    if let Some(domain) = &domain {
        require_declared_here(setup, name, &domain.metadata().workspace)?;
    }
    let pool = open_pool(setup, host)?;
    let volumes: Vec<String> =
        pool.volumes()?.into_iter().filter(|v| volume::owner(v) == Some(name.as_str())).collect();
    if let Some(domain) = &domain {
        domain.force_off()?;
    }
    for volume in &volumes {
        pool.delete(volume)?;
    }
    let had_domain = domain.is_some();
    domain.map(crate::hypervisor::Owned::undefine).transpose()?;
    if had_domain || !volumes.is_empty() {
        watch.done(&format!("Deleted the domain and {} disks of {name}", volumes.len()));
    }
    Ok(Destroyed { machine: name.clone(), domain: had_domain, volumes, files: false })
}

/// A machine's name may have been typed in the wrong folder, and what is deleted is gone.
fn require_declared_here(setup: &Setup, name: &MachineName, made_in: &str) -> Result<()> {
    if made_in == setup.workspace.as_str() || config::exists(&setup.workspace, name) {
        return Ok(());
    }
    Err(Failure::user(format!(
        "the machine `{name}` belongs to the workspace `{made_in}`; nothing was deleted"
    ))
    .hint(format!("name that workspace: `nixvm -C {made_in} destroy {name}`"))
    .into())
}

fn nothing(host: &Hypervisor, name: &MachineName) -> anyhow::Error {
    Failure::user(format!("no machine `{name}` at `{}`; nothing was deleted", host.uri()))
        .hint("`nixvm list` shows the machines there are")
        .into()
}
