//! `build`, `build-all` and `list-profiles`.

use crate::cli::{Shown, Terminal, machine_name, table, typed};
use crate::error::Result;
use crate::model::ProfileName;
use crate::ops::{self, Call, Setup};

#[derive(Debug, clap::Args)]
pub struct Build {
    /// Profiles to build [default: core]
    profiles: Vec<String>,
    /// Build the image of this machine instead
    #[arg(long, value_name = "NAME", conflicts_with = "profiles")]
    machine: Option<String>,
}

pub fn run(call: &Call, args: &Build, terminal: &Terminal) -> Result<Shown> {
    if let Some(name) = &args.machine {
        let name = machine_name(name)?;
        let built = ops::build_declared(&call.machine(&name)?, &name, terminal)?;
        return Ok(Shown::new(&built, built.out_link.display().to_string()));
    }
    let names: Vec<&str> = match args.profiles.as_slice() {
        [] => vec!["core"],
        names => names.iter().map(String::as_str).collect(),
    };
    let names = names.into_iter().map(|name| typed(name.parse())).collect::<Result<_>>()?;
    build(call.host(), names, terminal)
}

pub fn all(call: &Call, terminal: &Terminal) -> Result<Shown> {
    build(call.host(), call.host().workspace.profile_names()?, terminal)
}

fn build(setup: &Setup, names: Vec<ProfileName>, terminal: &Terminal) -> Result<Shown> {
    names.iter().try_for_each(|name| setup.workspace.check_profile(name))?;
    let built =
        names.iter().map(|name| ops::build_profile(setup, name, terminal)).collect::<Result<Vec<_>>>()?;
    let links: Vec<String> = built.iter().map(|built| built.out_link.display().to_string()).collect();
    Ok(Shown::new(&built, links.join("\n")))
}

pub fn list_profiles(call: &Call) -> Result<Shown> {
    let profiles = ops::profiles(call.host())?;
    let rows = profiles.iter().map(|profile| vec![profile.name.to_string(), profile.description.clone()]);
    Ok(Shown::new(&profiles, table(&["PROFILE", "DESCRIPTION"], rows)))
}
