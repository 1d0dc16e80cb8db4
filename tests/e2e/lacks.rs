//! A host that lacks something: one clear message, and nothing changed.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::harness::{Outcome, tell};
use crate::host;
use crate::leftovers::without_network;
use crate::process::{root, run};
use crate::world::World;

/// A machine that these tests try to make.
const D: &str = "e2e-d";

/// What creates it; the network is left open.
const CREATE: [&str; 6] = ["create", D, "core", "1024", "2", "4G"];

pub fn promise_10_every_failure_says_what_and_why_and_nothing_changes(world: &mut World) -> Result<Outcome> {
    let create = |network, more: &[&'static str]| [&CREATE[..], &[network, "--from-agent"], more].concat();

    let nowhere = format!("qemu+unix:///system?socket={}/none", world.dir.display());
    for command in
        [create("nat", &[]), vec!["list"], vec!["status", D], vec!["start", D], vec!["destroy", D, "--yes"]]
    {
        let out = world.nixvm(&[&["--connect", &nowhere], command.as_slice()].concat())?;
        out.refused(1, &["libvirt"])?;
        untouched(world)?;
    }

    let bare = world.dir.join("bare");
    fs::create_dir(&bare)?;
    // `--from-agent` needs this one, and gets that far.
    std::os::unix::fs::symlink(which("ssh-add")?, bare.join("ssh-add"))?;
    run(world.command(&create("nat", &[])).env("PATH", &bare), b"", Duration::from_secs(60))?
        .refused(1, &["nix"])?;
    untouched(world)?;

    world.nixvm(&create("bridge:e2enone", &[]))?.refused(1, &["e2enone"])?;
    untouched(world)?;

    world
        .nixvm(&[&["--nixpkgs", "path:/nonexistent/nixpkgs"], create("nat", &[]).as_slice()].concat())?
        .refused(1, &[])?;
    no_domain_no_volumes(&world.pool)?;
    if world.machine_dir(D).exists() {
        fs::remove_dir_all(world.machine_dir(D))?;
    }
    Ok(Outcome::Passed)
}

pub fn create_makes_the_default_network_where_it_is_missing(world: &mut World) -> Result<Outcome> {
    if !without_network(&world.dir)? {
        return Ok(Outcome::Skipped("guests are running that may use the network `default`".into()));
    }
    let gone = host::virsh_any(&["net-info", "default"])?;
    ensure!(gone.code != 0, "the network `default` could not be taken away:\n{gone}");

    let made = world.nixvm(&[&CREATE[..], &["nat", "--from-agent"]].concat())?.ok()?;
    tell!("create with the first build: {:.1} s", made.seconds);
    let active = host::virsh(&["net-list", "--name"])?;
    ensure!(
        active.stdout.split_whitespace().any(|name| name == "default"),
        "the network `default` is not up:\n{active}"
    );
    let xml = host::virsh(&["net-dumpxml", "default"])?.stdout;
    ensure!(
        xml.contains("<forward mode='nat'") && xml.contains("<dhcp>"),
        "the network leads nowhere: {xml}"
    );
    world.nixvm(&["purge", D, "--yes"])?.ok()?;
    untouched(world)?;
    Ok(Outcome::Passed)
}

pub fn a_pool_without_space_is_left_as_it_was(world: &mut World) -> Result<Outcome> {
    let tiny = world.dir.join("tiny").display().to_string();
    fs::create_dir(&tiny)?;
    root("mount", &["-t", "tmpfs", "-o", "size=4m,mode=0755", "nixvm-e2e", &tiny])?;
    let mount = tiny.clone();
    world.at_the_end(move || root("umount", &["--lazy", &mount]).map(drop));
    let pool = format!("{}-full", world.pool);
    host::virsh(&["pool-create-as", &pool, "dir", "--target", &tiny])?;

    // Declared and built first: what fails is to be the pool, and only that.
    let there = |arguments: &[&str]| world.nixvm(&[&["--pool", &pool], arguments].concat());
    there(&[&CREATE[..], &["nat", "--from-agent", "--no-build"]].concat())?.ok()?;
    there(&["build", "--machine", D])?.ok()?;
    let files = host::tree(&world.machine_dir(D))?;
    world.nixvm(&["create", D])?.refused(2, &["machines/e2e-d/pool", "NIXVM_POOL"])?;

    let refused = there(&["create", D])?;
    let left = host::volumes(&pool)?;
    let domain = host::definition(D)?;
    host::virsh(&["pool-destroy", &pool])?;
    refused.refused(1, &["space"])?;
    ensure!(left.is_empty(), "volumes were left half written: {left:?}");
    ensure!(domain.is_none(), "a domain was defined without disks");
    ensure!(host::tree(&world.machine_dir(D))? == files, "machines/{D} was changed");

    // The same machine in a pool with space: nothing is in the way of trying again. It has no disks that could be elsewhere.
    host::write_private(&world.machine_dir(D).join("pool"), &format!("{}\n", world.pool))?;
    world.nixvm(&["create", D])?.ok()?;
    world.nixvm(&["purge", D, "--yes"])?.ok()?;
    untouched(world)?;
    Ok(Outcome::Passed)
}

fn untouched(world: &World) -> Result<()> {
    ensure!(!world.machine_dir(D).exists(), "machines/{D} is there");
    no_domain_no_volumes(&world.pool)
}

fn no_domain_no_volumes(pool: &str) -> Result<()> {
    ensure!(host::definition(D)?.is_none(), "a domain {D} is there");
    if host::has_pool(pool)? {
        let left = host::volumes_of(pool, D)?;
        ensure!(left.is_empty(), "volumes are there: {left:?}");
    }
    Ok(())
}

fn which(program: &str) -> Result<String> {
    Ok(crate::process::host(&["sh", "-c", "command -v \"$1\"", "sh", program])?.text().to_owned())
}
