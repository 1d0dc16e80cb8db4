//! `build`: images of profiles and machines, without libvirt.

use std::path::PathBuf;

use serde::Serialize;

use crate::build::{BuiltMachine, Wanted, build_machines, flake, note_not_carried_out};
use crate::config;
use crate::error::{Explain, Failure, Result};
use crate::host::{Call, Setup, Watch};
use crate::model::{MachineName, ProfileName};
use crate::nix;
use crate::nix::image;
use crate::render;

#[derive(Debug, Clone, Serialize)]
pub struct BuiltProfile {
    pub profile: ProfileName,
    /// The link that keeps the image from Nix's garbage collector.
    #[serde(serialize_with = "crate::model::path::text")]
    pub out_link: PathBuf,
    pub base_bytes: u64,
    /// Options and packages of the profile that its guests lack; none with real nixpkgs.
    pub not_carried_out: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ListedProfile {
    pub name: ProfileName,
    /// The first paragraph of its file.
    pub description: String,
}

pub fn profiles(setup: &Setup) -> Result<Vec<ListedProfile>> {
    let describe = |name: ProfileName| {
        let file = setup.workspace.profile_file(&name);
        if !file.exists() {
            return Ok(ListedProfile { name, description: "One of nixvm's own.".into() });
        }
        let text = std::fs::read_to_string(&file).explain(|| Failure::unreadable(&file))?;
        render::syntax::check(&file.display().to_string(), &text)?;
        Ok(ListedProfile { name, description: render::syntax::doc_comment(&text).unwrap_or_default() })
    };
    setup.workspace.profile_names()?.into_iter().map(describe).collect()
}

/// Builds a profile's base image. Where Nix fails, nothing but its store has changed.
pub fn build_profile(setup: &Setup, profile: &ProfileName, watch: &dyn Watch) -> Result<BuiltProfile> {
    setup.workspace.check_profile(profile)?;
    let out_link = setup.workspace.build_dir().join(format!("profile-{profile}"));
    watch.step(&format!("Building profile {profile}"));
    let flake = flake::prepare(setup, |_, _| Ok(()), watch)?;
    let image = nix::build(&flake, &format!("profile-{profile}"), &out_link, |event| watch.nix(&event))?;
    let base = image.join("base.qcow2");
    let base_bytes = std::fs::metadata(&base).explain(|| Failure::unreadable(&base))?.len();
    let not_carried_out = image::read_not_carried_out(&image)?;
    watch.done(&format!("Built profile {profile}"));
    note_not_carried_out(&format!("profile {profile}"), &not_carried_out, watch);
    Ok(BuiltProfile { profile: profile.clone(), out_link, base_bytes, not_carried_out })
}

/// Builds the images of declared machines, as their next generations, without touching libvirt. Returns a result for each.
pub fn build_declared(
    call: &Call,
    names: &[MachineName],
    watch: &dyn Watch,
) -> Result<Vec<Result<BuiltMachine>>> {
    let declared = names.iter().map(|name| {
        let setup = call.machine(name)?;
        let machine = config::load(&setup.workspace, name)?;
        // Where libvirt does not answer, the image is built as a first generation.
        let domain = setup.hypervisor().and_then(|host| host.own(name));
        Ok((machine, domain.ok().map(|domain| domain.metadata().generations.clone())))
    });
    let declared = declared.collect::<Result<Vec<_>>>()?;
    let setup = call.host();
    let wanted: Vec<Wanted> =
        declared.iter().map(|(machine, known)| Wanted::declared(setup, machine, known.as_ref())).collect();
    build_machines(setup, &wanted, watch)
}
