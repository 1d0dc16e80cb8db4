//! What goes wrong outside nixvm: a full pool, a libvirt that goes away in the middle, a network that is down.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::harness::Outcome;
use crate::host;
use crate::process::{as_root, host_any, root, run, wait_for};
use crate::world::World;

use super::making::{CREATE, K, fresh, gone};
use super::{data, generations, middle};

/// A pool of the tests' own that can be filled up.
const FULL: &str = "full";

/// A build that fails leaves everything as it was, and where it does not any more, the same command works.
pub fn a_build_that_fails_changes_nothing(world: &mut World) -> Result<Outcome> {
    const COPY: &str = "e2e-k-copy";
    let broken = "{ pkgs, ... }: { environment.etc.\"e2e-broken\".source = \
                  pkgs.runCommand \"e2e-broken\" { } \"exit 7\"; }\n";
    let extra = world.machine_dir(K).join("extra.nix");
    gone(world, K)?;
    host::write_private(&extra, broken)?;
    let left = || Ok::<_, anyhow::Error>(host::volumes_of(&world.pool, K)?.len());
    world.nixvm(CREATE)?.refused(1, &["e2e-broken"])?;
    ensure!(host::definition(K)?.is_none() && left()? == 0, "a `create` that failed left something");
    fs::remove_file(&extra)?;
    world.nixvm(CREATE)?.ok()?;
    data::write(world, K, "kept")?;

    for command in [&["upgrade", K][..], &["clone", K, COPY], &["recreate", K, "--yes"]] {
        host::write_private(&extra, broken)?;
        let facts = || -> Result<String> {
            let files = host::tree(&world.workspace.join("machines"))?;
            let copy = format!("a copy: {}", host::definition(COPY)?.is_some());
            Ok([
                copy,
                host::defined(K)?,
                host::volumes(&world.pool)?.join("\n"),
                data::read(world, K)?,
                files,
            ]
            .join("\n"))
        };
        let before = facts()?;
        world.nixvm(command)?.refused(1, &["e2e-broken"])?;
        host::unchanged(&format!("{command:?}, whose build failed,"), &before, &facts()?)?;
        host::write_private(
            &extra,
            &format!("{{ environment.etc.\"e2e-mended\".text = {:?}; }}\n", command[0]),
        )?;
        world.nixvm(command)?.ok()?;
    }
    gone(world, COPY)?;
    gone(world, K)?;
    Ok(Outcome::Passed)
}

/// Commands that need room in the pool: refused without it, they change nothing; with it they work.
pub fn a_full_pool_refuses_what_needs_room_and_nothing_is_lost(world: &mut World) -> Result<Outcome> {
    let folder = world.dir.join(FULL).display().to_string();
    fs::create_dir(&folder)?;
    root("mount", &["-t", "tmpfs", "-o", "size=400m,mode=0755", "nixvm-e2e", &folder])?;
    let mount = folder.clone();
    world.at_the_end(move || root("umount", &["--lazy", &mount]).map(drop));
    // A name that begins like that of the world's own pool: it is removed with it.
    let pool = format!("{}-{FULL}", world.pool);
    host::virsh(&["pool-create-as", &pool, "dir", "--target", &folder])?;
    let own = std::mem::replace(&mut world.pool, pool.clone());
    let result = fill_and_try(world, &folder);
    gone(world, K)?;
    world.pool = own;
    host::virsh(&["pool-destroy", &pool])?;
    result.map(|()| Outcome::Passed)
}

/// Returns the lines of the machine's definition, sorted: libvirt puts an element of its metadata that is written anew, as it was,
/// behind the others.
fn definition() -> Result<String> {
    let defined = host::defined(K)?;
    let mut lines: Vec<&str> = defined.lines().collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

fn fill_and_try(world: &World, folder: &str) -> Result<()> {
    fresh(world, K, "kept")?;
    let extra = world.machine_dir(K).join("tcp_ports");
    host::write_private(&extra, "22\n8080\n")?;
    world.nixvm(&["build", "--machine", K])?.ok()?;
    let filler = format!("{folder}/filler");
    let archives = world.dir.join("archives").display().to_string();
    for command in [
        &["upgrade", K][..],
        &["snapshot", K, "one"],
        // Without `--incremental` it would be archived from where it is, and take no room.
        &["backup", K, "--incremental", "--to", &archives],
        &["recreate", K, "--yes"],
        &["clone", K, "e2e-k-copy"],
    ] {
        // Whatever is free, but for less than any volume takes.
        root(
            "sh",
            &[
                "-c",
                r#"head -c $(($(stat -f -c %a*%S "$1") - 65536)) /dev/zero > "$2""#,
                "sh",
                folder,
                &filler,
            ],
        )?;
        let facts = || -> Result<String> {
            Ok([definition()?, host::volumes(&world.pool)?.join("\n"), data::read(world, K)?].join("\n"))
        };
        let before = facts()?;
        world
            .nixvm(command)?
            .refused(1, &["space"])
            .with_context(|| format!("{command:?} in a full pool"))?;
        host::unchanged(&format!("{command:?}, refused in a full pool,"), &before, &facts()?)?;
        ensure!(!world.machine_dir("e2e-k-copy").exists(), "{command:?} left files of a machine");
        root("rm", &[&filler])?;
    }
    // With room, the first of them works.
    world.nixvm(&["upgrade", K])?.ok()?;
    ensure!(data::read(world, K)? == "kept", "the upgrade lost data");
    Ok(())
}

/// libvirt's daemon is restarted while `create` works: the command fails or not, and run again it completes.
pub fn a_libvirt_that_is_restarted_in_the_middle_loses_nothing(world: &mut World) -> Result<Outcome> {
    let Some(daemon) = Daemon::find()? else {
        return Ok(Outcome::Skipped("libvirt's daemon is not one that can be restarted here".into()));
    };
    fresh(world, K, "kept")?;
    host::write_private(&world.machine_dir(K).join("tcp_ports"), "22\n8081\n")?;
    world.nixvm(&["build", "--machine", K])?.ok()?;
    let archives = world.dir.join("archives").display().to_string();
    for command in [&["upgrade", K][..], &["snapshot", K, "one"], &["backup", K, "--to", &archives]] {
        let child = begun(world, command)?;
        daemon.restart()?;
        let ended = child.wait_with_output()?;
        if !ended.status.success() {
            let said = String::from_utf8_lossy(&ended.stderr);
            ensure!(said.contains("error:"), "{command:?} died without a word: {said}");
            world.nixvm(command)?.ok()?;
        }
        ensure!(data::read(world, K)? == "kept", "{command:?} lost data");
    }
    gone(world, K)?;
    Ok(Outcome::Passed)
}

/// Starts a command and returns it once it has written down that it works.
fn begun(world: &World, command: &[&str]) -> Result<Child> {
    let journal = world.workspace.join(format!("output/work/{K}.json"));
    let mut child =
        world.command(command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let begun = wait_for(Duration::from_secs(120), || {
        Ok((journal.exists() || child.try_wait()?.is_some()).then_some(()))
    })?;
    begun.with_context(|| format!("{command:?} does not begin"))?;
    Ok(child)
}

/// libvirt's daemon, and how it is restarted here.
enum Daemon {
    Systemd,
    ByHand,
}

impl Daemon {
    fn find() -> Result<Option<Self>> {
        if host_any(&["systemctl", "is-active", "--quiet", "libvirtd.service"]).is_ok_and(|out| out.code == 0)
        {
            return Ok(Some(Daemon::Systemd));
        }
        let pid = fs::read_to_string("/run/libvirtd.pid").unwrap_or_default().trim().to_owned();
        let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Ok((command.trim() == "libvirtd").then_some(Daemon::ByHand))
    }

    fn restart(&self) -> Result<()> {
        match self {
            Daemon::Systemd => root("systemctl", &["restart", "libvirtd.service"]).map(drop)?,
            Daemon::ByHand => {
                let pid = fs::read_to_string("/run/libvirtd.pid")?.trim().to_owned();
                root("kill", &[&pid])?;
                let over = || Ok((!fs::exists(format!("/proc/{pid}"))?).then_some(()));
                wait_for(Duration::from_secs(60), over)?.context("libvirtd does not end")?;
                run(as_root("libvirtd").arg("--daemon"), b"", Duration::from_secs(60))?.ok()?;
            }
        }
        let answers = || Ok((host::virsh_any(&["uri"])?.code == 0).then_some(()));
        match wait_for(Duration::from_secs(60), answers)? {
            Some(()) => Ok(()),
            None => bail!("libvirtd was restarted and does not answer"),
        }
    }
}

/// A network that somebody took down is up again with the next start.
pub fn a_network_that_is_down_is_started_with_the_machine(world: &mut World) -> Result<Outcome> {
    if !host::running_domains()?.is_empty() {
        return Ok(Outcome::Skipped("guests are running that may use the network `default`".into()));
    }
    fresh(world, K, "kept")?;
    host::virsh(&["net-destroy", "default"])?;
    world.nixvm(&["start", K])?.ok()?;
    let active = host::virsh(&["net-list", "--name"])?;
    ensure!(active.stdout.split_whitespace().any(|name| name == "default"), "it is still down:\n{active}");
    world.nixvm(&["force-stop", K])?.ok()?;
    ensure!(data::read(world, K)? == "kept", "the start lost data");
    gone(world, K)?;
    Ok(Outcome::Passed)
}

/// The first 4 KiB of volumes are gone, as after a power cut in the seconds after they were made: `start` makes again what can
/// be made again, and names what leads on where data was lost.
pub fn what_a_power_cut_took_is_made_again_or_told(world: &mut World) -> Result<Outcome> {
    let zero = |world: &World, volume: &str| -> Result<()> {
        let to = format!("of={}/{volume}", world.pool_folder.display());
        root("dd", &["if=/dev/zero", &to, "bs=4096", "count=1", "conv=notrunc", "status=none"]).map(drop)
    };
    generations::one(world)?;
    let restart = |world: &World| -> Result<()> {
        world.nixvm(&["start", K])?.ok()?;
        world.nixvm(&["force-stop", K])?.ok().map(drop)
    };
    restart(world)?;
    let volumes = host::volumes(&world.pool)?;
    let base = volumes.iter().find(|name| name.starts_with("nixvm-base-")).context("there is no base")?;
    let lost =
        [format!("{K}.boot-1.qcow2"), base.clone(), format!("{K}.nvram.fd"), format!("{K}.identity.img")];
    for volume in &lost {
        ensure!(volumes.contains(volume), "{volume} is not there: {volumes:?}");
        zero(world, volume)?;
        restart(world)?;
        middle::as_built(world, K, "boot-1")?;
        generations::whole(world)?;
    }

    world.nixvm(&["snapshot", K, "a"])?.ok()?;
    zero(world, &format!("{K}.data-2.qcow2"))?;
    world.nixvm(&["start", K])?.refused(1, &["has lost its first bytes", "snapshot", "recreate"])?;
    world.nixvm(&["restore-snapshot", K, "a", "--yes"])?.ok()?;
    restart(world)?;
    generations::whole(world)?;
    zero(world, &format!("{K}.data-3.qcow2"))?;
    world.nixvm(&["start", K])?.refused(1, &["has lost its first bytes"])?;
    world.nixvm(&["recreate", K, "--yes"])?.ok()?;
    restart(world)?;
    gone(world, K).map(|()| Outcome::Passed)
}
