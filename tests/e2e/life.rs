//! What is made once, what is deleted, and what is not touched.

use anyhow::{Context, Result, ensure};

use crate::Outcome;
use crate::host;
use crate::process::host as program;
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
    world.at_the_end(|| {
        host::virsh_any(&["undefine", FOREIGN])?;
        Ok(())
    });
    // Volumes that only begin like those of a machine, and one that is called as nixvm would call it.
    for volume in [format!("{FOREIGN}.data.qcow2"), format!("{A}-2.data.qcow2"), "notes.img".into()] {
        host::virsh(&["vol-create-as", "--pool", &world.pool, &volume, "1M"])?;
    }
    let before = (
        host::definition(FOREIGN)?,
        host::volumes(&world.pool)?,
        host::tree(&world.workspace.join("machines"))?,
    );

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
        let now = (
            host::definition(FOREIGN)?,
            host::volumes(&world.pool)?,
            host::tree(&world.workspace.join("machines"))?,
        );
        ensure!(now == before, "{command:?} was refused but changed something: {before:#?}\nis now {now:#?}");
        ensure!(
            host::state(FOREIGN)? == "shut off",
            "{command:?} was refused, but the domain is {}",
            host::state(FOREIGN)?
        );
    }
    let listed = world.nixvm(&["list"])?.ok()?;
    ensure!(
        listed.stdout.contains(A) && !listed.stdout.contains(FOREIGN),
        "a domain that is not nixvm's is listed:\n{listed}"
    );
    Ok(Outcome::Passed)
}

pub fn create_again_changes_nothing(world: &mut World) -> Result<Outcome> {
    world.machine_a()?;
    world.guest_root(A, "echo marker > /var/lib/again && sync")?.ok()?;
    let facts = |world: &World| -> Result<Vec<String>> {
        let data = host::volume(&world.pool, A, "data")?;
        Ok(vec![
            world.admin(A, &["cat", "/proc/sys/kernel/random/boot_id", "/var/lib/again"])?.ok()?.stdout,
            host::stat("%i %W", &data)?,
            host::sha256(&[
                host::volume(&world.pool, A, "boot")?,
                host::volume(&world.pool, A, "identity")?,
            ])?,
            host::volumes(&world.pool)?.join(" "),
            host::defined(A)?,
            host::tree(&world.workspace.join("machines"))?,
        ])
    };
    let before = facts(world)?;
    for again in [
        &["create", A][..],
        &["create", A, "core", "2048", "4", "8G", "nat", "--from-agent", "--start", "--wait"],
    ] {
        world.nixvm(again)?.refused(1, &[A, "exists"])?;
        for (was, is) in before.iter().zip(facts(world)?) {
            ensure!(*was == is, "{again:?} changed something: it was\n{was}and is\n{is}");
        }
    }
    Ok(Outcome::Passed)
}

pub fn stop_waits_until_the_machine_is_off(world: &mut World) -> Result<Outcome> {
    world.machine_b()?;
    world.guest_root(B, "echo kept > /var/lib/stop")?.ok()?;
    let stopped = world.nixvm(&["stop", B])?.ok()?;
    ensure!(host::state(B)? == "shut off", "`stop` came back while {B} was {}:\n{stopped}", host::state(B)?);
    ensure!(stopped.stderr.contains("shut down"), "`stop` does not say how it ended:\n{stopped}");
    println!("    {:.1} s", stopped.seconds);
    let again = world.nixvm(&["stop", B])?.ok()?;
    ensure!(again.stderr.contains("off already"), "a second `stop` does not say that {B} was off:\n{again}");
    world.nixvm(&["ssh", B, "--", "true"])?.refused(1, &[B, "off"])?;

    // A second `create` of a machine that is off: not a byte of its data changes.
    let data = [host::volume(&world.pool, B, "data")?];
    let before = host::sha256(&data)?;
    world.nixvm(&["create", B])?.refused(1, &[B, "exists"])?;
    ensure!(host::sha256(&data)? == before, "`create` changed the data of a machine that exists");
    Ok(Outcome::Passed)
}

pub fn destroy_keeps_the_files_and_purge_does_not(world: &mut World) -> Result<Outcome> {
    world.machine_b()?;
    let files = host::tree(&world.machine_dir(B))?;
    let old = host::defined(B)?;
    let others = |world: &World| -> Result<(String, Vec<String>, String)> {
        let volumes = host::volumes(&world.pool)?;
        let not_of_b = volumes.into_iter().filter(|name| !name.starts_with(&format!("{B}."))).collect();
        Ok((host::defined(A)?, not_of_b, host::tree(&world.machine_dir(A))?))
    };
    // A name that begins with this machine's name is another machine's.
    host::virsh(&["vol-create-as", "--pool", &world.pool, &format!("{B}-2.data.qcow2"), "1M"])?;
    let others_before = others(world)?;
    let intact = |world: &World| -> Result<()> {
        ensure!(others(world)? == others_before, "something of another machine changed");
        Ok(())
    };

    // The original deletes every machine on `destroy ""`, and nobody was asked here.
    world.nixvm(&["destroy", "", "--yes"])?.refused(2, &[])?;
    world.nixvm(&["purge", "", "--yes"])?.refused(2, &[])?;
    world.nixvm(&["destroy", B])?.refused(1, &["--yes"])?;
    ensure!(
        host::defined(B)? == old && !host::volumes_of(&world.pool, B)?.is_empty(),
        "a refused `destroy` deleted something"
    );

    world.nixvm(&["destroy", B, "--yes"])?.ok()?;
    world.forget(B);
    ensure!(host::definition(B)?.is_none(), "`destroy` left the domain");
    ensure!(
        host::volumes_of(&world.pool, B)?.is_empty(),
        "`destroy` left {:?}",
        host::volumes_of(&world.pool, B)?
    );
    ensure!(host::tree(&world.machine_dir(B))? == files, "`destroy` changed machines/{B}");
    intact(world)?;

    world.nixvm(&["create", B])?.ok()?;
    let new = host::defined(B)?;
    for (what, of) in [
        ("uuid", (host::element(&old, "uuid"), host::element(&new, "uuid"))),
        ("MAC", (mac(&old), mac(&new))),
    ] {
        ensure!(
            of.0.is_some() && of.0 == of.1,
            "made again from its files, {B}'s {what} was {:?} and is {:?}",
            of.0,
            of.1
        );
    }
    ensure!(host::tree(&world.machine_dir(B))? == files, "`create` changed files that were there");

    world.nixvm(&["purge", B, "--yes"])?.ok()?;
    ensure!(host::definition(B)?.is_none(), "`purge` left the domain");
    ensure!(
        host::volumes_of(&world.pool, B)?.is_empty(),
        "`purge` left {:?}",
        host::volumes_of(&world.pool, B)?
    );
    ensure!(!world.machine_dir(B).exists(), "`purge` left machines/{B}");
    intact(world)?;
    world.nixvm(&["destroy", B, "--yes"])?.refused(1, &[B])?;
    world.nixvm(&["purge", B, "--yes"])?.refused(1, &[B])?;
    program(&["test", "-e", &world.machine_dir(A).display().to_string()])?;
    Ok(Outcome::Passed)
}

fn mac(xml: &str) -> Option<&str> {
    host::attribute(xml, "mac", "address").context("no MAC").ok()
}
