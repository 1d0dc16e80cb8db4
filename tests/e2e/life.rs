//! What is made once, what is deleted, and what is not touched.

use anyhow::{Result, ensure};

use crate::harness::{Outcome, tell};
use crate::host;
use crate::world::{A, B, World};

/// A domain that somebody else made.
const FOREIGN: &str = "e2e-foreign";

pub fn promise_8_foreign_domains_are_left_alone(world: &mut World) -> Result<Outcome> {
    world.machine_a()?;
    host::define(
        "define",
        &format!(
            "<domain type='qemu'><name>{FOREIGN}</name><memory unit='MiB'>16</memory><os><type>hvm</type></os></domain>"
        ),
    )?;
    world.at_the_end(|| host::virsh(&["undefine", FOREIGN]).map(drop));
    // One that is called as nixvm would call it, one that begins like those of a machine, one of nobody's.
    for volume in [format!("{FOREIGN}.data-1.qcow2"), format!("{A}-2.data-1.qcow2"), "notes.img".into()] {
        host::virsh(&["vol-create-as", "--pool", &world.pool, &volume, "1M"])?;
    }
    let facts = |world: &World| -> Result<String> {
        let volumes = host::volumes(&world.pool)?.join("\n");
        let files = host::tree(&world.workspace.join("machines"))?;
        Ok([host::defined(FOREIGN)?, host::state(FOREIGN)?, volumes, files].join("\n"))
    };
    let before = facts(world)?;

    for command in [
        &["create", FOREIGN, "core", "1024", "2", "4G", "nat", "--from-agent"][..],
        &["start", FOREIGN],
        &["stop", FOREIGN],
        &["force-stop", FOREIGN],
        &["reboot", FOREIGN],
        &["ssh", FOREIGN, "--", "true"],
        &["console", FOREIGN],
        &["destroy", FOREIGN, "--yes"],
        &["purge", FOREIGN, "--yes"],
    ] {
        world.nixvm(command)?.refused(1, &[FOREIGN])?;
        host::unchanged(&format!("{command:?}, though refused,"), &before, &facts(world)?)?;
    }
    let listed = world.nixvm(&["list"])?.ok()?;
    ensure!(listed.stdout.contains(A), "{A} is not listed:\n{listed}");
    ensure!(!listed.stdout.contains(FOREIGN), "a domain that is not nixvm's is listed:\n{listed}");
    Ok(Outcome::Passed)
}

pub fn create_again_changes_nothing(world: &mut World) -> Result<Outcome> {
    world.machine_a()?;
    world.guest_root(A, "echo marker > /var/lib/again && sync")?.ok()?;
    let facts = |world: &World| -> Result<String> {
        let [boot, data, identity] =
            ["boot", "data", "identity"].map(|role| host::volume(&world.pool, A, role));
        let marker = ["cat", "/proc/sys/kernel/random/boot_id", "/var/lib/again"];
        let facts = [
            world.admin(A, &marker)?.ok()?.stdout,
            // The guest writes to its data meanwhile; that the file is the same one says that it was not replaced.
            host::stat("%i %W", &data?)?,
            host::sha256(&[boot?, identity?])?,
            host::volumes(&world.pool)?.join("\n"),
            host::defined(A)?,
            host::tree(&world.workspace.join("machines"))?,
        ];
        Ok(facts.join("\n"))
    };
    let before = facts(world)?;
    for again in [
        &["create", A][..],
        &["create", A, "core", "2048", "4", "8G", "nat", "--from-agent", "--start", "--wait"],
    ] {
        world.nixvm(again)?.refused(1, &[A, "exists"])?;
        host::unchanged(&format!("{again:?}, though refused,"), &before, &facts(world)?)?;
    }
    Ok(Outcome::Passed)
}

pub fn stop_waits_until_the_machine_is_off(world: &mut World) -> Result<Outcome> {
    world.machine_b()?;
    // As QEMU does when the pool is full.
    host::virsh(&["suspend", B])?;
    world.nixvm(&["stop", B])?.refused(1, &[B, "paused", "nixvm start"])?;
    world.nixvm(&["start", B, "--wait"])?.ok()?;
    ensure!(host::state(B)? == "running", "`start` left {B} {}", host::state(B)?);

    // As libvirt-guests does when the host is shut down: the guest goes on with what is nowhere but in its memory.
    world.guest_root(B, "echo remembered > /run/e2e")?.ok()?;
    host::virsh(&["managedsave", B])?;
    let listed = world.nixvm(&["list"])?.ok()?;
    ensure!(listed.stdout.contains("saved"), "a saved machine is not listed as one:\n{listed}");
    world.nixvm(&["upgrade", B])?.refused(1, &[B, "saved", "nixvm start", "--discard-saved"])?;
    world.nixvm(&["start", B])?.ok()?;
    let remembered = world.admin(B, &["cat", "/run/e2e"])?.ok()?;
    ensure!(remembered.text() == "remembered", "{B} did not go on from its memory:\n{remembered}");

    let stopped = world.nixvm(&["stop", B])?.ok()?;
    let state = host::state(B)?;
    ensure!(state == "shut off", "`stop` came back while {B} was {state}:\n{stopped}");
    ensure!(stopped.stderr.contains("shut down"), "`stop` does not say how it ended:\n{stopped}");
    tell!("{:.1} s", stopped.seconds);
    let again = world.nixvm(&["stop", B])?.ok()?;
    ensure!(again.stderr.contains("off already"), "a second `stop` does not say that {B} was off:\n{again}");
    world.nixvm(&["ssh", B, "--", "true"])?.refused(1, &[B, "off"])?;

    // A second `create` of a machine that is off: not a byte of its data changes.
    let data = [host::volume(&world.pool, B, "data")?];
    let before = host::sha256(&data)?;
    world.nixvm(&["create", B])?.refused(1, &[B, "exists"])?;
    host::unchanged("`create`, though refused,", &before, &host::sha256(&data)?)?;
    Ok(Outcome::Passed)
}

pub fn destroy_keeps_the_files_and_purge_does_not(world: &mut World) -> Result<Outcome> {
    world.machine_b()?;
    let folder = world.machine_dir(B);
    let files = host::tree(&folder)?;
    let old = host::defined(B)?;
    // A name that begins with this machine's name is another machine's.
    host::virsh(&["vol-create-as", "--pool", &world.pool, &format!("{B}-2.data-1.qcow2"), "1M"])?;
    let others = |world: &World| -> Result<String> {
        let mut volumes = host::volumes(&world.pool)?;
        volumes.retain(|name| !name.starts_with(&format!("{B}.")));
        Ok([host::defined(A)?, volumes.join("\n"), host::tree(&world.machine_dir(A))?].join("\n"))
    };
    let others_before = others(world)?;
    let gone = |world: &World, verb: &str| -> Result<()> {
        ensure!(host::definition(B)?.is_none(), "`{verb}` left the domain");
        let left = host::volumes_of(&world.pool, B)?;
        ensure!(left.is_empty(), "`{verb}` left {left:?}");
        host::unchanged(&format!("`{verb}`, of another machine,"), &others_before, &others(world)?)
    };

    // The original deletes every machine on `destroy ""`; and here is nobody to ask.
    let volumes = host::volumes(&world.pool)?.join("\n");
    world.nixvm(&["destroy", "", "--yes"])?.refused(2, &[])?;
    world.nixvm(&["purge", "", "--yes"])?.refused(2, &[])?;
    world.nixvm(&["destroy", B])?.refused(2, &["--yes"])?;
    host::unchanged("a refused `destroy`", &old, &host::defined(B)?)?;
    host::unchanged("a refused `destroy`", &volumes, &host::volumes(&world.pool)?.join("\n"))?;

    world.nixvm(&["destroy", B, "--yes"])?.ok()?;
    world.forget(B);
    gone(world, "destroy")?;
    host::unchanged("`destroy`, which keeps the files,", &files, &host::tree(&folder)?)?;

    world.nixvm(&["create", B])?.ok()?;
    let new = host::defined(B)?;
    let identity = |xml: &str| (host::element(xml, "uuid").map(str::to_owned), mac(xml));
    ensure!(
        identity(&new) == identity(&old) && mac(&new).is_some(),
        "made again from its files, {B} was {:?} and is {:?}",
        identity(&old),
        identity(&new)
    );
    host::unchanged("`create` from files", &files, &host::tree(&folder)?)?;

    world.nixvm(&["purge", B, "--yes"])?.ok()?;
    gone(world, "purge")?;
    ensure!(!folder.exists(), "`purge` left {}", folder.display());
    world.nixvm(&["destroy", B, "--yes"])?.refused(1, &[B])?;
    world.nixvm(&["purge", B, "--yes"])?.refused(1, &[B])?;
    Ok(Outcome::Passed)
}

fn mac(xml: &str) -> Option<String> {
    host::attribute(xml, "mac", "address").map(str::to_owned)
}
