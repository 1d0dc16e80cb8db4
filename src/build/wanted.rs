//! A machine to build, and the decision which generation the build is.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::host::Setup;
use crate::model::record::Generations;
use crate::model::{Generation, Machine};
use crate::nix::image::Image;
use crate::render::{self, Rendered};

/// A machine whose image is to be built.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    pub machine: &'a Machine,
    /// The folder with the files that its `extra.nix` names.
    pub beside: PathBuf,
    /// The builds that the machine has; `None` for a new one.
    pub known: Option<&'a Generations>,
    /// Whether even a known system becomes the next generation, so that its boot volume is a new one.
    pub anew: bool,
}

/// The files that Nix gets of a machine, and the generation that they say they are.
pub(super) struct Written {
    pub(super) generation: Generation,
    /// The digest of everything that the image is built from.
    pub(super) inputs: String,
    pub(super) rendered: Rendered,
}

impl<'a> Wanted<'a> {
    /// Returns a machine to build from its folder in the workspace.
    pub fn declared(setup: &Setup, machine: &'a Machine, known: Option<&'a Generations>) -> Self {
        Wanted { machine, beside: setup.workspace.machine_dir(&machine.name), known, anew: false }
    }

    /// A build with the inputs (the machine's files, modules, profiles, nixpkgs) of a known one gets its number, and so comes
    /// out the same, byte for byte. Any other build is the next generation, unless it turns out to be the [`Self::same`].
    fn generation(&self, inputs: &str) -> Generation {
        let known = self.known.and_then(|known| known.with_digest(inputs)).filter(|_| !self.anew);
        known.map(|build| build.generation()).unwrap_or_else(|| Generation {
            number: self.known.map_or(1, Generations::next),
            digest: inputs.to_owned(),
        })
    }

    /// Returns the current generation if a build from other inputs is the same system: its image is in the pool already.
    pub(super) fn same(&self, built: &Generation, image: &Image) -> Option<Generation> {
        let current = self.known?.current();
        let same =
            current.number != built.number && current.fingerprint.as_deref() == Some(&image.fingerprint);
        (same && !self.anew).then(|| current.generation())
    }

    /// Finds errors for which nobody needs to run Nix.
    pub(super) fn check(&self, setup: &Setup) -> Result<()> {
        let name = &self.machine.name;
        setup.workspace.check_profile(&self.machine.profile)?;
        if let Some(extra) = &self.machine.extra {
            render::syntax::check(&format!("machines/{name}/extra.nix"), extra)?;
        }
        render::require_ours(&setup.workspace.rendered_dir().join(name.as_str()))
    }

    /// Writes the machine's files to `machines/NAME`.
    pub(super) fn render(&self, machines: &Path, flake_digest: &str) -> Result<Written> {
        let Wanted { machine, beside, .. } = self;
        let name = &machine.name;
        let companions = machine.extra.as_deref().map(|extra| render::companions(beside, name, extra));
        let companions = companions.transpose()?.unwrap_or_default();
        let companions = render::copy_companions(&machines.join(name.as_str()), &companions)?;
        let inputs = [render::digest(machine), flake_digest.to_owned(), companions].join("\n");
        let inputs = format!("{:x}", Sha256::digest(inputs.trim_end()));
        let generation = self.generation(&inputs);
        let rendered = render::write(machines, machine, &generation)?;
        Ok(Written { generation, inputs, rendered })
    }
}
