//! A workspace in a folder of an odd name, with files beside `extra.nix`; moved while its machine runs, and copied.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::harness::{Outcome, tell};
use crate::host;
use crate::process::{Output, run};
use crate::world::World;

const MACHINE: &str = "e2e-moved";

/// What a flake reference, a shell, XML, ssh's options and libvirt's URIs each have a meaning for.
const ODD: &str = r#"a b é#1?x=50%41\'"&+$HOME~"#;

const EXTRA: &str = "{ imports = [ ./lib.nix ]; }\n";
const LIB: &str = "{ environment.etc.\"e2e-motd\".source = ./files/motd; environment.etc.\"e2e-run\".source = ./files/run.sh; }\n";

/// Where the machine's workspace is, as libvirt has it recorded, from the next start on and for what runs.
fn recorded(world: &World, at: &Path) -> Result<()> {
    for which in [&["--inactive"][..], &[]] {
        let xml = host::virsh(&[&["dumpxml"], which, &[MACHINE]].concat())?.stdout;
        let attribute = xml.split("workspace=").nth(1).context("the domain records no workspace")?;
        let shown = attribute.split(" volumes=").next().unwrap_or_default();
        let shown = shown.get(1..shown.len().saturating_sub(1)).unwrap_or_default();
        // libvirt writes some characters by their numbers.
        let shown = shown.replace("&#xE9;", "é").replace("&quot;", "\"").replace("&apos;", "'");
        let shown = shown.replace("&amp;", "&");
        ensure!(Path::new(&shown) == at, "{which:?}: recorded is {shown}, and not {}", at.display());
    }
    ensure!(
        !world.nixvm(&["status", MACHINE])?.ok()?.stdout.contains("owns the machine"),
        "it is another workspace's"
    );
    Ok(())
}

fn write(world: &World, name: &str, text: &str) -> Result<PathBuf> {
    let path = world.machine_dir(MACHINE).join(name);
    host::write_private(&path, text)?;
    Ok(path)
}

fn move_to(world: &mut World, name: &str) -> Result<PathBuf> {
    let to = world.dir.join(name);
    fs::rename(&world.workspace, &to)?;
    Ok(std::mem::replace(&mut world.workspace, to))
}

fn from_copy(world: &World, copy: &str, arguments: &[&str]) -> Result<Output> {
    world.nixvm(&[&["-C", copy], arguments].concat())
}

pub fn a_workspace_anywhere_is_moved_while_its_machine_runs(world: &mut World) -> Result<Outcome> {
    move_to(world, ODD)?;
    world
        .nixvm(&["create", MACHINE, "core", "1024", "1", "2G", "nat", "--from-agent", "--no-build"])?
        .ok()?;
    write(world, "extra.nix", EXTRA)?;
    write(world, "lib.nix", LIB)?;
    write(world, "files/motd", "first\n")?;
    let program = write(world, "files/run.sh", "#!/bin/sh\necho ran\n")?;
    host::write_program(&program, "#!/bin/sh\necho ran\n")?;
    let created = world.nixvm(&["create", MACHINE, "--start", "--wait"])?.ok()?;
    tell!("create in `{ODD}`: {:.0} s", created.seconds);
    let guest = world.admin(MACHINE, &["cat /etc/e2e-motd; /etc/e2e-run"])?.ok()?;
    ensure!(guest.stdout == "first\nran\n", "the guest has\n{guest}");
    recorded(world, &world.workspace)?;

    // A copy is not the machine's workspace, whatever it holds.
    let copy = world.dir.join("copy").display().to_string();
    let mut cp = Command::new("cp");
    cp.arg("-a").arg("--").arg(&world.workspace).arg(&copy);
    run(&mut cp, b"", Duration::from_secs(60))?.ok()?;
    let status = from_copy(world, &copy, &["status", MACHINE])?.ok()?;
    ensure!(status.stdout.contains("owns the machine"), "a copy takes the machine for its own:\n{status}");
    for verb in [
        &["destroy", MACHINE, "--yes"][..],
        &["purge", MACHINE, "--yes"],
        &["start", MACHINE],
        &["stop", MACHINE],
        &["force-stop", MACHINE],
        &["reboot", MACHINE],
        &["ssh", MACHINE],
        &["console", MACHINE],
        &["set", MACHINE, "memory=512M"],
        &["network-config", MACHINE, "user"],
        &["upgrade", MACHINE],
        &["snapshot", MACHINE],
        &["backup", MACHINE],
        &["rename", MACHINE, "e2e-other"],
        &["clone", MACHINE, "e2e-other"],
    ] {
        from_copy(world, &copy, verb)?.refused(1, &["belongs to the workspace"])?;
    }
    recorded(world, &world.workspace)?;

    // Moved, nothing is lost: not for `clean` either, which is the first to come.
    let was = move_to(world, "moved \"twice\" & more")?;
    let kept = |world: &World| -> Result<String> {
        let volumes = host::volumes(&world.pool)?.join("\n");
        Ok([volumes, host::tree(&world.workspace.join("output/generations"))?].join("\n"))
    };
    let before = kept(world)?;
    let dry = world.nixvm(&["clean", "--dry-run"])?.ok()?;
    ensure!(!dry.stdout.contains(MACHINE), "clean would delete what the moved machine needs:\n{dry}");
    world.nixvm(&["clean", "--yes"])?.ok()?;
    host::unchanged("`clean` in a workspace that was moved", &before, &kept(world)?)?;
    recorded(world, &world.workspace)?;
    let listed = world.nixvm(&["list"])?.ok()?;
    ensure!(listed.stdout.contains("running"), "{listed}");
    ensure!(!was.exists(), "something made {} again", was.display());
    from_copy(world, &copy, &["purge", MACHINE, "--yes"])?
        .refused(1, &["belongs to the workspace", "moved"])?;

    // A change of a file beside extra.nix is a change of the machine.
    write(world, "files/motd", "second\n")?;
    let upgraded = world.nixvm(&["upgrade", MACHINE])?.ok()?;
    tell!("upgrade after the move: {:.0} s", upgraded.seconds);
    let guest = world.admin(MACHINE, &["cat", "/etc/e2e-motd"])?.ok()?;
    ensure!(guest.stdout == "second\n", "the guest has\n{guest}");
    recorded(world, &world.workspace)?;
    world.nixvm(&["purge", MACHINE, "--yes"])?.ok()?;
    ensure!(host::definition(MACHINE)?.is_none(), "purge left the domain");
    Ok(Outcome::Passed)
}

/// Volumes that a killed `create` wrote down as its own are another workspace's by the time that it is looked after.
pub fn what_a_killed_create_left_stays_with_whoever_made_a_machine_of_it(
    world: &mut World,
) -> Result<Outcome> {
    const LEFT: &str = "e2e-left";
    const SHOP: &str = "e2e-shop";
    let create = ["create", LEFT, "core", "256", "1", "64M", "nat", "--from-agent"];
    let other = world.dir.join("other").display().to_string();
    let mut cp = Command::new("cp");
    cp.arg("-a").arg("--").arg(&world.workspace).arg(&other);
    run(&mut cp, b"", Duration::from_secs(60))?.ok()?;
    for folder in ["machines", "output/work"] {
        let folder = Path::new(&other).join(folder);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
    }

    let mut killed = world.command(&create);
    let killed = run(killed.env("NIXVM_DIE_AFTER", "4"), b"", Duration::from_secs(600))?;
    ensure!(killed.code == 137, "it was not killed:\n{killed}");
    from_copy(world, &other, &create)?.ok()?;
    from_copy(world, &other, &["rename", LEFT, SHOP])?.ok()?;
    let disks = |world: &World| -> Result<String> {
        let volumes = host::volumes_of(&world.pool, LEFT)?;
        let paths = volumes.iter().map(|volume| host::volume_path(&world.pool, volume));
        Ok(format!("{:?}", host::sha256(&paths.collect::<Result<Vec<_>>>()?)?))
    };
    let before = disks(world)?;
    world.nixvm(&["destroy", LEFT, "--yes"])?.refused(1, &["nothing was deleted", "`e2e-shop` needs it"])?;
    host::unchanged("`destroy` of what another workspace has by now", &before, &disks(world)?)?;
    world.nixvm(&create)?.ok()?;
    world.nixvm(&["purge", LEFT, "--yes"])?.ok()?;
    host::unchanged("`purge` of another machine of the name", &before, &disks(world)?)?;
    from_copy(world, &other, &["purge", SHOP, "--yes"])?.ok()?;
    ensure!(host::volumes_of(&world.pool, LEFT)?.is_empty(), "its own workspace left something");
    Ok(Outcome::Passed)
}
