//! `rename`, `clone` and `recreate` on guests that boot.

use anyhow::{Result, ensure};

use crate::harness::{Outcome, tell};
use crate::host;
use crate::world::World;

const FIRST: &str = "e2e-f";
const RENAMED: &str = "e2e-h";
const CLONE: &str = "e2e-g";

/// Prints the machine-id, the hostname, the hardware address, the key that ssh shows and the UUID.
const IDENTITY: &str = "cat /etc/machine-id; hostname; cat /sys/class/net/e*/address; \
    ssh-keyscan -t ed25519 127.0.0.1 2>/dev/null | grep -v '^#' | cut -d' ' -f3; cat /sys/class/dmi/id/product_uuid";

/// Three boots for all of them.
pub fn a_machine_is_renamed_cloned_and_recreated(world: &mut World) -> Result<Outcome> {
    world.nixvm(&[&["create", FIRST][..], &SIZE, &["--start", "--wait"]].concat())?.ok()?;
    world.guest_root(FIRST, "echo marker > /var/lib/e2e-copies && sync")?.ok()?;
    let first = identity(world, FIRST)?;
    world.nixvm(&["rename", FIRST, RENAMED])?.refused(1, &["is on", "nixvm stop"])?;
    world.nixvm(&["stop", FIRST])?.ok()?;

    world.nixvm(&["rename", FIRST, RENAMED])?.ok()?;
    world.nixvm(&["start", FIRST])?.refused(1, &[FIRST])?;
    // The old name is free, and whoever takes it gets disks of their own.
    world.nixvm(&[&["create", FIRST][..], &SIZE].concat())?.ok()?;
    ensure!(
        host::defined(FIRST)?.contains(&format!("/{FIRST}_2.data-1.qcow2'")),
        "two machines have the same disks"
    );
    world.nixvm(&["rename", RENAMED, FIRST])?.refused(1, &["nothing was changed"])?;
    world.nixvm(&["purge", FIRST, "--yes"])?.ok()?;

    let original = |world: &World| -> Result<String> {
        let volumes = host::volumes_of(&world.pool, FIRST)?;
        let disks: Vec<String> = volumes
            .iter()
            .filter(|name| name.contains("qcow2"))
            .map(|name| host::volume_path(&world.pool, name))
            .collect::<Result<_>>()?;
        Ok([host::sha256(&disks)?, host::defined(RENAMED)?, host::tree(&world.machine_dir(RENAMED))?]
            .join("\n"))
    };
    let before = original(world)?;
    let cloned = world.nixvm(&["clone", RENAMED, CLONE])?.ok()?;
    tell!("clone: {:.1} s", cloned.seconds);
    host::unchanged("`clone`, of the original,", &before, &original(world)?)?;
    world.nixvm(&["clone", RENAMED, CLONE])?.refused(1, &[CLONE, "exists"])?;
    world.nixvm(&["start", CLONE, "--wait"])?.ok()?;
    let marker = world.guest_root(CLONE, "cat /var/lib/e2e-copies")?.ok()?;
    ensure!(marker.text() == "marker", "the clone's data holds {marker}");
    let second = identity(world, CLONE)?;
    for (one, other) in first.iter().zip(&second) {
        ensure!(one != other, "the clone has {one} too");
    }
    ensure!(second[1] == CLONE, "the clone calls itself {}", second[1]);
    world.nixvm(&["purge", CLONE, "--yes"])?.ok()?;

    let volumes = host::volumes_of(&world.pool, FIRST)?;
    world.nixvm(&["recreate", RENAMED])?.refused(2, &["--yes"])?;
    ensure!(
        volumes == host::volumes_of(&world.pool, FIRST)?,
        "`recreate`, though refused, changed the disks"
    );
    let began = world.nixvm(&["start", RENAMED])?.ok()?;
    let recreated = world.nixvm(&["recreate", RENAMED, "300M", "--yes", "--timeout", "300"])?.ok()?;
    tell!("start: {:.1} s, recreate: {:.1} s", began.seconds, recreated.seconds);
    let left = host::volumes_of(&world.pool, FIRST)?;
    ensure!(
        left.iter().all(|name| !name.ends_with("data-1.qcow2") && !name.ends_with("boot-1.qcow2")),
        "old disks are left: {left:?}"
    );
    world.nixvm(&["start", RENAMED, "--wait"])?.ok()?;
    world.guest_root(RENAMED, "test ! -e /var/lib/e2e-copies")?.ok()?;
    let now = identity(world, RENAMED)?;
    ensure!(now[1] == RENAMED, "after a build the machine calls itself {}", now[1]);
    let rest = |identity: &[String]| [&identity[..1], &identity[2..]].concat();
    ensure!(rest(&now) == rest(&first), "the machine was {first:?} and is {now:?}");
    world.nixvm(&["purge", RENAMED, "--yes"])?.ok()?;
    Ok(Outcome::Passed)
}

const SIZE: [&str; 6] = ["core", "1024", "2", "256M", "nat", "--from-agent"];

fn identity(world: &World, machine: &str) -> Result<Vec<String>> {
    let said = world.guest_root(machine, IDENTITY)?.ok()?;
    let lines: Vec<String> = said.stdout.lines().map(str::to_owned).collect();
    ensure!(lines.len() == 5 && lines.iter().all(|line| !line.is_empty()), "five lines expected:\n{said}");
    Ok(lines)
}
