//! Builds images: a profile's base, a machine's thin disk.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::build::{Sources, flake};
use crate::error::{Failure, Result};
use crate::host::{Setup, Watch};
use crate::model::record::{Build, Generations};
use crate::model::{Generation, Machine, MachineName};
use crate::nix;
use crate::nix::image::Image;
use crate::render::{self, Rendered};

/// A machine whose image was built.
#[derive(Debug, Clone, Serialize)]
pub struct BuiltMachine {
    /// The machine.
    pub machine: MachineName,
    /// Which build of the machine it is; the digest is the one that its image has.
    pub generation: Generation,
    /// The digest of what it was built from this time: another one where other files give the same system.
    #[serde(skip)]
    pub inputs: String,
    /// The link that keeps the image from Nix's garbage collector.
    #[serde(serialize_with = "crate::model::path::text")]
    pub out_link: PathBuf,
    /// Options and packages that the machine asks for and its guest does not have; none with real nixpkgs.
    pub not_carried_out: Vec<String>,
    /// What was built, in Nix's store.
    #[serde(skip)]
    pub image: Image,
    /// The files that nixvm rendered for it.
    #[serde(skip)]
    pub rendered: Rendered,
    /// The files of the flake and of the machine that it was built from.
    #[serde(skip)]
    pub sources: Sources,
}

/// Builds a machine's image; `known` are the builds that the machine has.
///
/// A build whose inputs (the machine's files, modules, profiles, nixpkgs) are those of a known one has its number, and so
/// comes out the same, byte for byte. One that turns out to be the same system as the current one is that generation too,
/// whatever its inputs say: its image is the one that is in the pool. Any other is the next generation.
///
/// # Errors
/// The machine's files are not valid Nix, or Nix fails; nothing but Nix's store has changed then.
pub fn build_machine(
    setup: &Setup,
    machine: &Machine,
    known: Option<&Generations>,
    watch: &dyn Watch,
) -> Result<BuiltMachine> {
    build_beside(setup, machine, &setup.workspace.machine_dir(&machine.name), known, watch)
}

/// Builds the image of a new machine whose folder is not there yet; the files that its `extra.nix` names are in `beside`.
///
/// # Errors
/// As [`build_machine`].
pub fn build_beside(
    setup: &Setup,
    machine: &Machine,
    beside: &Path,
    known: Option<&Generations>,
    watch: &dyn Watch,
) -> Result<BuiltMachine> {
    let name = &machine.name;
    let generation = |inputs: &str| {
        let made = known.and_then(|known| known.with_digest(inputs));
        let next = || Generation { number: known.map_or(1, Generations::next), digest: inputs.to_owned() };
        made.map_or_else(next, Build::generation)
    };
    let mut built = build_image(setup, machine, beside, generation, watch)?;
    let same = known.map(Generations::current).filter(|current| {
        current.number != built.generation.number
            && current.fingerprint.as_deref() == Some(&built.image.fingerprint)
    });
    if let Some(current) = same {
        built.generation = current.generation();
        built.rendered = render::write(&setup.workspace.rendered_dir(), machine, &built.generation)?;
    }
    let number = built.generation.number;
    watch.done(&match same {
        Some(_) => format!("Built {name}: it is the same system as generation {number}"),
        None => format!("Built {name}, generation {number}"),
    });
    tell_not_carried_out(name.as_str(), &built.not_carried_out, watch);
    Ok(built)
}

/// Builds a machine's image as its next generation, also where it is the same as one that is known: its boot volume
/// then is a new one, made beside the one in use.
///
/// # Errors
/// As [`build_machine`].
pub fn build_next(
    setup: &Setup,
    machine: &Machine,
    known: &Generations,
    watch: &dyn Watch,
) -> Result<BuiltMachine> {
    let next = |inputs: &str| Generation { number: known.next(), digest: inputs.to_owned() };
    let built = build_image(setup, machine, &setup.workspace.machine_dir(&machine.name), next, watch)?;
    watch.done(&format!("Built {}, generation {}", machine.name, built.generation.number));
    tell_not_carried_out(machine.name.as_str(), &built.not_carried_out, watch);
    Ok(built)
}

/// Builds a machine's image as the generation that `generation` gives the digest of its inputs.
fn build_image(
    setup: &Setup,
    machine: &Machine,
    beside: &Path,
    generation: impl FnOnce(&str) -> Generation,
    watch: &dyn Watch,
) -> Result<BuiltMachine> {
    let name = &machine.name;
    setup.workspace.check_profile(&machine.profile)?;
    if let Some(extra) = &machine.extra {
        // Before Nix is asked anything: what is wrong with it can be said without one.
        render::syntax::check(&format!("machines/{name}/extra.nix"), extra)?;
    }
    render::require_ours(&setup.workspace.rendered_dir().join(name.as_str()))?;
    let mut made = None;
    let render = |machines: &Path, flake_digest: &str| -> Result<()> {
        let companions = match &machine.extra {
            Some(extra) => render::companions(beside, name, extra)?,
            None => Vec::new(),
        };
        let companions = render::copy_companions(&machines.join(name.as_str()), &companions)?;
        let inputs = [render::digest(machine), flake_digest.to_owned(), companions].join("\n");
        let inputs = format!("{:x}", Sha256::digest(inputs.trim_end()));
        let generation = generation(&inputs);
        let rendered = render::write(machines, machine, &generation)?;
        made = Some((inputs, generation, rendered));
        Ok(())
    };
    let flake = flake::prepare(setup, render, watch)?;
    let (inputs, generation, rendered) = made.ok_or_else(|| Failure::bug("a build of nothing"))?;
    let sources = Sources::of(&flake.folder, &flake.machines.join(name.as_str()), name)?;

    let out_link = setup.workspace.build_dir().join(format!("vm-{name}"));
    watch.step(&format!("Building {name} from profile {}", machine.profile));
    let image =
        Image::read(&nix::build(&flake, &format!("vm-{name}"), &out_link, |event| watch.nix(&event))?)?;
    let not_carried_out = image.not_carried_out.clone();
    Ok(BuiltMachine {
        machine: name.clone(),
        generation,
        inputs,
        out_link,
        not_carried_out,
        image,
        rendered,
        sources,
    })
}

/// Says what `whose` asks for and its guest does not have.
pub fn tell_not_carried_out(whose: &str, names: &[String], watch: &dyn Watch) {
    if !names.is_empty() {
        let names = names.join(", ");
        watch.note(&format!("the offline base does not carry out what {whose} asks for: {names}"));
    }
}
