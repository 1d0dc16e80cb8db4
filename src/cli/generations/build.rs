//! `build`, `build-all` and `list-profiles`.

use crate::cli::{Selection, Shown, Terminal, Turn, several, table, typed};
use crate::error::Result;
use crate::model::{MachineName, ProfileName};
use crate::ops::{self, Call, Setup};

#[derive(Debug, clap::Args)]
pub struct Build {
    /// Profiles to build [default: core]
    profiles: Vec<String>,
    /// Build the images of these machines instead: names, globs ('web-*'), or @PROFILE for those of a profile
    #[arg(long, value_name = "NAME", num_args = 1.., conflicts_with = "profiles")]
    machine: Vec<String>,
}

pub fn run(call: &Call, args: &Build, terminal: &Terminal) -> Result<Shown> {
    if !args.machine.is_empty() {
        return build_machines(call, &args.machine, terminal);
    }
    let names: Vec<&str> = match args.profiles.as_slice() {
        [] => vec!["core"],
        names => names.iter().map(String::as_str).collect(),
    };
    let names = names.into_iter().map(|name| typed(name.parse())).collect::<Result<_>>()?;
    build(call.host(), names, terminal)
}

fn build_machines(call: &Call, words: &[String], terminal: &Terminal) -> Result<Shown> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let selection = Selection::of(call, &words)?;
    let names: Vec<MachineName> = selection.names().into_iter().collect();
    let results = ops::build_declared(call, &names, terminal)?;
    let links: Vec<String> =
        results.iter().flatten().map(|built| built.out_link.display().to_string()).collect();
    let turns = names.into_iter().zip(results).map(|(name, result)| Turn::of(name, result));
    let mut shown = several(turns.collect(), links.join("\n"), terminal)?;
    // A program that names one machine gets one object.
    let only = shown.json.as_array_mut().filter(|_| selection.only().is_some()).and_then(Vec::pop);
    if let Some(only) = only {
        shown.json = only;
    }
    Ok(shown)
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
