//! Builds the images of machines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::build::{Sources, Wanted, flake};
use crate::error::{Failure, Kind, Report, Result};
use crate::file::{self, UnfinishedFolder};
use crate::host::{Setup, Watch};
use crate::model::{Generation, MachineName};
use crate::nix::image::Image;
use crate::nix::{self, Flake};
use crate::render::{self, Rendered};

use super::wanted::Written;

/// The flake's output with the images of all machines that share the evaluation of their profile: a folder with a link for each.
const SHARING: &str = "machines";

/// A machine whose image was built.
#[derive(Debug, Clone, Serialize)]
pub struct BuiltMachine {
    pub machine: MachineName,
    /// The generation that was built; its digest is the one in the image.
    pub generation: Generation,
    /// The digest of what it was built from this time: a new one where other files give the same system.
    #[serde(skip)]
    pub inputs: String,
    /// The link that keeps the image from Nix's garbage collector.
    #[serde(serialize_with = "crate::model::path::text")]
    pub out_link: PathBuf,
    /// Options and packages that the machine asks for and its guest lacks; none with the real nixpkgs.
    pub not_carried_out: Vec<String>,
    /// The image in Nix's store.
    #[serde(skip)]
    pub image: Image,
    #[serde(skip)]
    pub rendered: Rendered,
    /// Those files that it was built from which are the same for all machines of a build.
    #[serde(skip)]
    of_flake: Arc<Sources>,
    #[serde(skip)]
    of_machine: Sources,
}

impl BuiltMachine {
    /// Returns the files of the workspace that it was built from.
    pub fn sources(&self) -> Sources {
        self.of_flake.with(&self.of_machine)
    }
}

/// Builds a machine's image. A build that fails changes nothing but Nix's store.
pub fn build_machine(setup: &Setup, wanted: &Wanted, watch: &dyn Watch) -> Result<BuiltMachine> {
    let mut results = build_machines(setup, std::slice::from_ref(wanted), watch)?;
    results.pop().unwrap_or_else(|| Err(Failure::bug("a build of nothing").into()))
}

/// Builds the images of machines from one copy of the flake, and returns a result for each, in the same order. A build that
/// fails changes nothing but Nix's store.
///
/// Machines that share the evaluation of their profile are built by one process of Nix, however many they are. Each of the others
/// has a process to itself, because together they would take hundreds of megabytes of memory each.
///
/// # Errors
/// Something that all machines need is wrong, such as the flake, or the command was interrupted.
pub fn build_machines(
    setup: &Setup,
    wanted: &[Wanted],
    watch: &dyn Watch,
) -> Result<Vec<Result<BuiltMachine>>> {
    let checked: Vec<Result<()>> = wanted.iter().map(|wanted| wanted.check(setup)).collect();
    if checked.iter().all(Result::is_err) {
        return Ok(checked.into_iter().filter_map(Result::err).map(Err).collect());
    }
    let mut written = Vec::new();
    let render = |machines: &Path, flake_digest: &str| {
        for (wanted, checked) in wanted.iter().zip(checked) {
            let one = checked.and_then(|()| wanted.render(machines, flake_digest));
            if one.is_err() {
                // Nix must not find half a machine.
                file::remove_folder(&machines.join(wanted.machine.name.as_str()))?;
            }
            written.push(one);
        }
        Ok(())
    };
    let flake = flake::prepare(setup, render, watch)?;
    let several = written.iter().filter(|one| one.is_ok()).count() > 1;
    let of_flake = Arc::new(Sources::of_flake(&flake.folder)?);
    let build = Build { setup, flake, of_flake, several, watch };
    let sharing = if several { build.sharing()? } else { None };
    let mut results = Vec::new();
    for (wanted, written) in wanted.iter().zip(written) {
        match written.and_then(|written| build.one(wanted, written, sharing.as_ref())) {
            Err(error) if is_interrupted(&error) => return Err(error),
            result => results.push(result),
        }
    }
    if several {
        note_several(&results, wanted, watch);
    }
    Ok(results)
}

/// Tells of many builds what a person can take in.
fn note_several(results: &[Result<BuiltMachine>], wanted: &[Wanted], watch: &dyn Watch) {
    let is_new = |(built, wanted): &(&Result<BuiltMachine>, &Wanted)| {
        built
            .as_ref()
            .is_ok_and(|built| wanted.known.is_none_or(|known| known.get(built.generation.number).is_none()))
    };
    let new = results.iter().zip(wanted).filter(is_new).count();
    let built = results.iter().flatten().count();
    watch.done(&format!("Built the images of {built} machines, {new} of them new"));
    let mut lacking: BTreeMap<&[String], Vec<&str>> = BTreeMap::new();
    for built in results.iter().flatten() {
        lacking.entry(&built.not_carried_out).or_default().push(built.machine.as_str());
    }
    for (names, machines) in lacking {
        let whose = match machines.as_slice() {
            [first, _, ..] => format!("{first} and {} more", machines.len() - 1),
            one => one.concat(),
        };
        note_not_carried_out(&whose, names, watch);
    }
}

/// The images of the machines that share.
struct Sharing {
    /// A folder in Nix's store, with a link for each.
    folder: PathBuf,
    /// Keeps them from Nix's garbage collector until each has a link in the workspace.
    _link: UnfinishedFolder,
}

/// A build of machines from one copy of the flake.
struct Build<'a> {
    setup: &'a Setup,
    flake: Flake,
    of_flake: Arc<Sources>,
    several: bool,
    watch: &'a dyn Watch,
}

impl Build<'_> {
    /// Builds all machines that share. If this fails, it returns `None`: each machine is then built by itself, so that the error is
    /// that of its machine.
    fn sharing(&self) -> Result<Option<Sharing>> {
        self.watch.step("Building the machines' images");
        let build_dir = self.setup.workspace.build_dir();
        file::create_folder(&build_dir)?;
        let links = file::private_folder_in(&build_dir)?;
        let link = links.path().join(SHARING);
        match nix::build(&self.flake, SHARING, &link, |event| self.watch.nix(&event)) {
            Ok(folder) => Ok(Some(Sharing { folder, _link: links })),
            Err(error) if is_interrupted(&error) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Builds a machine, or takes its image from `sharing` if it is there.
    fn one(&self, wanted: &Wanted, written: Written, sharing: Option<&Sharing>) -> Result<BuiltMachine> {
        let Build { setup, flake, of_flake, several, watch } = self;
        let name = &wanted.machine.name;
        let Written { generation, inputs, rendered } = written;
        let out_link = setup.workspace.build_dir().join(format!("vm-{name}"));
        let shared = sharing.map(|sharing| sharing.folder.join(name.as_str()));
        let folder = match shared.filter(|image| image.exists()) {
            Some(image) => nix::keep(&image, &out_link)?,
            None => {
                watch.step(&format!("Building {name} from profile {}", wanted.machine.profile));
                nix::build(flake, &format!("vm-{name}"), &out_link, |event| watch.nix(&event))?
            }
        };
        let image = Image::read(&folder)?;
        let mut built = BuiltMachine {
            machine: name.clone(),
            generation,
            inputs,
            out_link,
            not_carried_out: image.not_carried_out.clone(),
            image,
            rendered,
            of_flake: Arc::clone(of_flake),
            of_machine: Sources::of_machine(&flake.machines.join(name.as_str()), name)?,
        };
        let same = wanted.same(&built.generation, &built.image);
        if !several {
            watch.done(&match &same {
                Some(same) => format!("Built {name}: it is the same system as generation {}", same.number),
                None => format!("Built {name}, generation {}", built.generation.number),
            });
            note_not_carried_out(name.as_str(), &built.not_carried_out, *watch);
        }
        if let Some(generation) = same {
            built.rendered = render::write(&setup.workspace.rendered_dir(), wanted.machine, &generation)?;
            built.generation = generation;
        }
        Ok(built)
    }
}

fn is_interrupted(error: &anyhow::Error) -> bool {
    Report::of(error).exit_code == Kind::Interrupted.exit_code()
}

/// Warns of what `whose` asks for and its guest lacks.
pub fn note_not_carried_out(whose: &str, names: &[String], watch: &dyn Watch) {
    if !names.is_empty() {
        let names = names.join(", ");
        watch.note(&format!("the offline base does not carry out what {whose} asks for: {names}"));
    }
}
