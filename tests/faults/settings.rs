//! Commands that change a machine's settings, and those that do one thing and so have no boundary to be killed at.

use anyhow::{Context, Result, ensure};

use crate::harness::Outcome;
use crate::host;
use crate::world::World;

use super::causes::{Hindrance, hindered};
use super::data;
use super::kill::{Case, at_every_boundary};
use super::making::{K, fresh, gone};
use super::saved::Saved;

pub fn set_killed_anywhere_is_completed_by_set(world: &mut World) -> Result<Outcome> {
    fresh(world, K, "mine")?;
    let saved = Saved::of(world, K)?;
    at_every_boundary(
        world,
        &Case {
            command: &["set", K, "memory=300M", "var_size=128M"],
            machine: K,
            ends: 0,
            prepare: &|world| saved.put_back(world),
            survived: &|world| {
                ensure!(data::read(world, K)? == "mine", "the data changed");
                Ok(())
            },
            completed: &|world| {
                let files =
                    [world.file(K, "memory")?, world.file(K, "var_size")?].map(|text| text.trim().to_owned());
                ensure!(files == ["300M", "128M"], "the files say {files:?}");
                let size = super::copies::capacity(world, K)?;
                ensure!(size == 128 << 20, "the disk has {size} bytes");
                Ok(())
            },
        },
    )?;
    gone(world, K).map(|()| Outcome::Passed)
}

/// Hindered, each does its work or says why it does not; unhindered, it does it then.
pub fn a_command_of_one_step_that_is_hindered_loses_nothing(world: &mut World) -> Result<Outcome> {
    fresh(world, K, "mine")?;
    let (saved, world): (Saved, &World) = (Saved::of(world, K)?, world);
    let hash = world.dir.join("hash");
    std::fs::write(&hash, crate::world::hash("a password")?)?;
    let hash = hash.display().to_string();
    let commands = [
        &["start", K][..],
        &["network-config", K, "user"],
        &["passwd", K, "--hash", &hash],
        &["clean", "--yes"],
    ];
    for command in commands {
        for hindrance in Hindrance::ALL {
            let met = || -> Result<()> {
                saved.put_back(world)?;
                let ended = hindered(world, command, hindrance)?;
                let full = hindrance == Hindrance::FullDisk;
                ensure!(ended.code == 0 || full && ended.code == 1, "it failed otherwise:\n{ended}");
                world.nixvm(command)?.ok()?;
                host::virsh_any(&["destroy", K])?;
                ensure!(data::read(world, K)? == "mine", "the data changed");
                Ok(())
            };
            met().with_context(|| format!("`nixvm {}` with {hindrance:?}", command.join(" ")))?;
        }
    }
    gone(world, K).map(|()| Outcome::Passed)
}
