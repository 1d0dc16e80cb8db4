//! Builds a machine's image, and decides which generation it is.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::build::{Sources, flake};
use crate::error::{Failure, Result};
use crate::host::{Setup, Watch};
use crate::model::record::Generations;
use crate::model::{Generation, Machine, MachineName};
use crate::nix;
use crate::nix::image::Image;
use crate::render::{self, Rendered};

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
    #[serde(skip)]
    pub sources: Sources,
}

/// Builds a machine's image; `known` are the builds that the machine has. A build that fails changes nothing but Nix's store.
///
/// A build with the inputs (the machine's files, modules, profiles, nixpkgs) of a known one gets its number, and so comes out
/// the same, byte for byte. One that turns out to be the same system as the current generation, though its inputs differ, is
/// that generation: its image is in the pool already. Any other build is the next generation.
pub fn build_machine(
    setup: &Setup,
    machine: &Machine,
    known: Option<&Generations>,
    watch: &dyn Watch,
) -> Result<BuiltMachine> {
    build_beside(setup, machine, &setup.workspace.machine_dir(&machine.name), known, watch)
}

/// Builds the image of a new machine that has no folder yet; the files that its `extra.nix` names are in `beside`.
pub fn build_beside(
    setup: &Setup,
    machine: &Machine,
    beside: &Path,
    known: Option<&Generations>,
    watch: &dyn Watch,
) -> Result<BuiltMachine> {
    let generation = |inputs: &str| match known.and_then(|known| known.with_digest(inputs)) {
        Some(made) => made.generation(),
        None => Generation { number: known.map_or(1, Generations::next), digest: inputs.to_owned() },
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
    note_built(&built, same.is_some(), watch);
    Ok(built)
}

/// Builds a machine's image as its next generation, even if it is a known system, so that its boot volume is a new one.
pub fn build_next(
    setup: &Setup,
    machine: &Machine,
    known: &Generations,
    watch: &dyn Watch,
) -> Result<BuiltMachine> {
    let next = |inputs: &str| Generation { number: known.next(), digest: inputs.to_owned() };
    let built = build_image(setup, machine, &setup.workspace.machine_dir(&machine.name), next, watch)?;
    note_built(&built, false, watch);
    Ok(built)
}

fn note_built(built: &BuiltMachine, same: bool, watch: &dyn Watch) {
    let BuiltMachine { machine: name, generation: Generation { number, .. }, .. } = built;
    watch.done(&if same {
        format!("Built {name}: it is the same system as generation {number}")
    } else {
        format!("Built {name}, generation {number}")
    });
    note_not_carried_out(name.as_str(), &built.not_carried_out, watch);
}

/// Builds a machine's image as the generation that `generation` chooses for the digest of its inputs.
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
        // A syntax error is reported before Nix is run.
        render::syntax::check(&format!("machines/{name}/extra.nix"), extra)?;
    }
    render::require_ours(&setup.workspace.rendered_dir().join(name.as_str()))?;
    let mut made = None;
    let render = |machines: &Path, flake_digest: &str| -> Result<()> {
        let companions = machine.extra.as_deref().map(|extra| render::companions(beside, name, extra));
        let companions = companions.transpose()?.unwrap_or_default();
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
    let folder = nix::build(&flake, &format!("vm-{name}"), &out_link, |event| watch.nix(&event))?;
    let image = Image::read(&folder)?;
    let (machine, not_carried_out) = (name.clone(), image.not_carried_out.clone());
    Ok(BuiltMachine { machine, generation, inputs, out_link, not_carried_out, image, rendered, sources })
}

/// Warns of what `whose` asks for and its guest lacks.
pub fn note_not_carried_out(whose: &str, names: &[String], watch: &dyn Watch) {
    if !names.is_empty() {
        let names = names.join(", ");
        watch.note(&format!("the offline base does not carry out what {whose} asks for: {names}"));
    }
}
