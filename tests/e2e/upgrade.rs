//! New systems under old data: kept if they come up as well as the last one, taken back if not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::harness::{Outcome, tell};
use crate::host;
use crate::process::{self, Output};
use crate::world::World;

/// The machine of these tests. On QEMU's own network: it has to be reachable, not to share one with others.
const U: &str = "e2e-u";

/// Another one, which is off: it is upgraded after the first, or not at all.
const SECOND: &str = "e2e-u-second";

/// A TCP port that its upgrade opens.
const PORT: &str = "8088";

/// What its upgrade brings.
const GOOD: &str = "{ environment.etc.\"e2e-upgraded\".text = \"yes\\n\"; }\n";

/// Two units that fail at every boot, and say why; one of them tries to paint the reader's terminal.
const FAILING_UNITS: &str = "{ systemd.services = { \
    e2e-broken = { wantedBy = [ \"multi-user.target\" ]; serviceConfig = { Type = \"oneshot\"; \
        ExecStart = \"/bin/sh -c 'echo e2e-no-config; exit 7'\"; }; }; \
    e2e-other = { wantedBy = [ \"multi-user.target\" ]; serviceConfig = { Type = \"oneshot\"; \
        ExecStart = \"/bin/sh -c 'printf \\\\033[31me2e-no-port; exit 1'\"; }; }; }; }\n";

/// A unit that fails again and again, too slowly for systemd to give it up.
const RESTLESS_UNIT: &str = "{ systemd.services.e2e-restless = { wantedBy = [ \"multi-user.target\" ]; \
    serviceConfig = { Restart = \"always\"; RestartSec = 4; \
        ExecStart = \"/bin/sh -c 'echo e2e-lost-its-mind; sleep 1; exit 3'\"; }; }; }\n";

/// A system that is well but for its network: no card is the one that networkd is to bring up.
const NO_NETWORK: &str = "{ lib, ... }: { systemd.network.networks.\"10-nixvm\".matchConfig.Driver = lib.mkForce \"e2e-none\"; }\n";

/// A kernel that finds no first program in its initial ramdisk, and no root without one.
const PANIC: &str = "{ nixvm.image.layout = \"whole\"; boot.kernelParams = [ \"rdinit=/e2e-missing\" ]; }\n";

/// Seconds that a guest is given, instead of the ten minutes that it would have.
const TIMEOUT: &str = "240";

/// What no upgrade may change, and by what its boots are told apart.
#[derive(Debug, PartialEq, Eq)]
struct Guest {
    boot: String,
    data: String,
}

fn machine(world: &World) -> Result<Guest> {
    if host::definition(U)?.is_none() {
        let create = ["create", U, "core", "1024", "2", "256M", "user", "--from-agent", "--start", "--wait"];
        world.nixvm(&create)?.ok()?;
        world
            .guest_root(
                U,
                "head -c 4M /dev/urandom > /var/lib/e2e-data && chmod 600 /var/lib/e2e-data && sync",
            )?
            .ok()?;
    }
    if host::state(U)? != "running" {
        world.nixvm(&["start", U, "--wait"])?.ok()?;
    }
    guest(world)
}

fn guest(world: &World) -> Result<Guest> {
    let said =
        world.guest_root(U, "cat /proc/sys/kernel/random/boot_id; sha256sum /var/lib/e2e-data")?.ok()?;
    let (boot, data) = said.text().split_once('\n').context("the guest says too little")?;
    Ok(Guest { boot: boot.to_owned(), data: data.to_owned() })
}

fn extra(world: &World, text: &str) -> Result<()> {
    host::write_private(&world.machine_dir(U).join("extra.nix"), text)
}

fn generations(world: &World) -> Result<Vec<Value>> {
    let listed = world.nixvm(&["generations", U, "--json"])?.ok()?;
    serde_json::from_str(&listed.stdout).with_context(|| listed.to_string())
}

/// Returns the number of the generation that the machine is defined on, and of the one that it runs.
fn numbers(world: &World) -> Result<(u64, u64)> {
    let all = generations(world)?;
    let number = |mark: &str| {
        all.iter().find(|g| g[mark] == true).and_then(|g| g["number"].as_u64()).unwrap_or_default()
    };
    Ok((number("current"), number("running")))
}

fn said(output: &Output, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(output.stderr.contains(word), "no `{word}` in what was said by\n{output}");
    }
    Ok(())
}

pub fn promise_4_an_upgrade_costs_one_reboot_and_a_failed_build_nothing(
    world: &mut World,
) -> Result<Outcome> {
    let before = machine(world)?;
    let facts = |world: &World| -> Result<String> {
        let guest = guest(world)?;
        let parts = [guest.boot, guest.data, host::volumes(&world.pool)?.join("\n"), host::defined(U)?];
        Ok(parts.join("\n"))
    };
    let untouched = facts(world)?;
    for (broken, word) in
        [("{ a = ; }\n", "extra.nix"), ("{ lib, ... }: { x = lib.e2e-missing; }\n", "e2e-missing")]
    {
        extra(world, broken)?;
        let failed = world.nixvm(&["upgrade", U])?.fails(1)?;
        said(&failed, &["error:", word])?;
        host::unchanged("a build that failed", &untouched, &facts(world)?)?;
    }

    extra(world, GOOD)?;
    let ports = world.file(U, "tcp_ports")?;
    host::write_private(&world.machine_dir(U).join("tcp_ports"), &format!("{ports}{PORT}\n"))?;
    // Until now it lets in admin alone.
    let keys = world.file(U, "admin_authorized_keys")?;
    host::write_private(&world.machine_dir(U).join("user_authorized_keys"), &keys)?;
    let diff = world.nixvm(&["diff", U])?.ok()?;
    for word in ["tcp_ports", PORT, "user_authorized_keys", "extra.nix", "e2e-upgraded", "packages:"] {
        ensure!(diff.stdout.contains(word), "`diff` does not tell of {word}:\n{diff}");
    }
    host::unchanged("`diff`", &untouched, &facts(world)?)?;

    let checked = health_check(world)?;
    let done = world.nixvm(&["upgrade", U, "--json"])?.ok()?;
    was_checked(world, &checked)?;
    let json: Value = serde_json::from_str(&done.stdout).with_context(|| done.to_string())?;
    let now = guest(world)?;
    ensure!(now.data == before.data, "the data changed: {before:?}, now {now:?}");
    ensure!(now.boot != before.boot, "the machine was not restarted");
    let rules = "cat /etc/e2e-upgraded; nft list ruleset 2>/dev/null || iptables-save";
    let seen = world.guest_root(U, rules)?.ok()?;
    ensure!(seen.stdout.starts_with("yes\n") && seen.stdout.contains(PORT), "not as declared:\n{seen}");
    let user = world.nixvm(&["ssh", U, "user", "--", "id", "-un"])?.ok()?;
    ensure!(user.text() == "user", "the new key of user does not let in:\n{user}");
    ensure!(numbers(world)? == (2, 2), "generations are {:?}", generations(world)?);
    ensure!(generations(world)?[1]["health"] == "healthy", "generations are {:?}", generations(world)?);
    let downtime = json[0]["downtime"].as_f64().context("no downtime was measured")?;
    tell!("upgrade: {:.1} s, of which the machine was away {downtime:.1} s", done.seconds);

    let again = world.nixvm(&["upgrade", U])?.ok()?;
    said(&again, &["up to date"])?;
    ensure!(guest(world)? == now, "an upgrade without a change did something:\n{again}");
    tell!("nothing to upgrade: {:.1} s", again.seconds);
    let reboot = world.nixvm(&["reboot", U, "--wait"])?.ok()?;
    tell!("a reboot for comparison: {:.1} s", reboot.seconds);
    Ok(Outcome::Passed)
}

/// Gives the machine a health check that is content, and returns the file in which it tells of whom.
fn health_check(world: &World) -> Result<PathBuf> {
    let file = world.dir.join("checked");
    let script =
        format!("#!/bin/sh\necho \"$NIXVM_MACHINE $1 $NIXVM_SSH_PORT $PWD\" >> {}\n", file.display());
    host::write_program(&world.machine_dir(U).join("health-check"), &script)?;
    Ok(file)
}

/// Sees that the check ran once, told where the guest is, and takes it away.
fn was_checked(world: &World, file: &Path) -> Result<()> {
    let status: Value = serde_json::from_str(&world.nixvm(&["status", U, "--json"])?.ok()?.stdout)?;
    let address = status["address"].as_str().context("no address")?.replace(':', " ");
    let told = fs::read_to_string(file).context("the health check did not run")?;
    let expected = format!("{U} {address} {}\n", world.workspace.display());
    ensure!(told == expected, "the health check was told {told:?} instead of {expected:?}");
    Ok(fs::remove_file(world.machine_dir(U).join("health-check"))?)
}

pub fn promise_5_what_does_not_come_up_healthy_is_taken_back(world: &mut World) -> Result<Outcome> {
    machine(world)?;
    let (good, _) = numbers(world)?;
    world.nixvm(&["create", SECOND, "core", "1024", "1", "256M", "user", "--from-agent"])?.ok()?;
    let harmless = world.file(U, "extra.nix").ok();
    for (what, text, words) in [
        ("a kernel that panics", PANIC, &["Kernel panic", "serial log"][..]),
        (
            "failing units",
            FAILING_UNITS,
            &["e2e-broken.service says:", "e2e-no-config", "e2e-other.service says:", "e2e-no-port"],
        ),
        (
            "a unit that fails again and again",
            RESTLESS_UNIT,
            &["again and again: e2e-restless.service", "e2e-restless.service says:", "e2e-lost-its-mind"],
        ),
        (
            "a network that does not come up",
            NO_NETWORK,
            &["ssh does not answer", "systemd-networkd.service says:"],
        ),
        ("a truncated disk image", "{ environment.etc.\"e2e-cut\".text = \"x\"; }\n", &[]),
    ] {
        let before = guest(world)?;
        extra(world, text)?;
        if words.is_empty() {
            world.nixvm(&["upgrade", U, "--no-start"])?.ok()?;
            let next = numbers(world)?;
            ensure!(next.1 == good && next.0 > good, "prepared, and {:?}", generations(world)?);
            ensure!(guest(world)? == before, "a prepared upgrade did something to the running guest");
            let volume = host::volume_path(&world.pool, &format!("{U}.boot-{}.qcow2", next.0))?;
            process::root("truncate", &["-s", "300K", &volume])?;
        }
        // Of several machines, the first that is taken back keeps the others from being touched.
        let several = what == "failing units";
        let machines: &[&str] = if several { &[U, SECOND, "--canary", U] } else { &[U] };
        let upgrade = [&["upgrade", "--timeout", TIMEOUT], machines].concat();
        let taken_back = world.nixvm(&upgrade)?.refused(3, words)?;
        if several {
            let rows: Vec<Vec<&str>> =
                taken_back.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
            let row = |name: &str| rows.iter().find(|row| row[0] == name).map(|row| row[2..].join(" "));
            let first = row(U).unwrap_or_default();
            ensure!(first.starts_with(&format!("{good} rolled back: ")), "{taken_back}");
            ensure!(row(SECOND).as_deref() == Some("off, then 1 not begun"), "{taken_back}");
        }
        said(&taken_back, &[&format!("generation {good} runs again")])?;
        ensure!(
            !taken_back.stderr.contains('\u{1b}'),
            "{what}: a guest writes to the terminal:\n{taken_back}"
        );
        let after = guest(world)?;
        ensure!(after.data == before.data, "{what}: the data changed: {before:?}, now {after:?}");
        ensure!(after.boot != before.boot, "{what}: the machine was never restarted");
        ensure!(numbers(world)? == (good, good), "{what}: generations are {:?}", generations(world)?);
        let all = generations(world)?;
        let tried = all.last().context("no generations")?;
        ensure!(tried["health"] == "unhealthy", "{what}: generations are {all:?}");
        tell!("{what}: taken back after {:.0} s", taken_back.seconds);
    }
    match harmless {
        Some(harmless) => extra(world, &harmless)?,
        None => std::fs::remove_file(world.machine_dir(U).join("extra.nix"))?,
    }
    said(&world.nixvm(&["upgrade", U])?.ok()?, &["up to date"])?;
    world.nixvm(&["purge", SECOND, "--yes"])?.ok()?;
    Ok(Outcome::Passed)
}

pub fn the_same_system_restarts_nobody_and_diff_says_what_changed(world: &mut World) -> Result<Outcome> {
    machine(world)?;
    // Whatever the tests before left in the files.
    world.nixvm(&["upgrade", U])?.ok()?;
    let (before, current) = (guest(world)?, numbers(world)?);
    let workspace = world.workspace.clone();
    let [flake, profile, unused] =
        ["flake.nix", "profiles/core.nix", "profiles/e2e-unused.nix"].map(|name| workspace.join(name));
    let saved = [&flake, &profile].map(|path| fs::read_to_string(path).map(|text| (path.clone(), text)));
    let saved = saved.into_iter().collect::<std::io::Result<Vec<_>>>()?;
    let files = world.machine_dir(U);
    let extra_nix = world.file(U, "extra.nix").ok();
    let ports = world.file(U, "tcp_ports")?;

    let description = saved[0].1.replace("immutable NixOS", "unchanging NixOS");
    ensure!(description != saved[0].1, "flake.nix has another description by now");
    fs::write(&flake, description)?;
    fs::write(&profile, format!("{}\n# No machine needs a restart for this.\n", saved[1].1))?;
    fs::write(&unused, "# A profile that nobody uses.\n{ environment.etc.\"e2e-unused\".text = \"\"; }\n")?;
    extra(world, &format!("# A comment.\n{}", extra_nix.as_deref().unwrap_or("{ }\n")))?;
    host::write_private(&files.join("tcp_ports"), &format!("\n{ports}\n\n"))?;
    let diff = world.nixvm(&["diff", U])?.ok()?;
    for word in [
        "the same system",
        "changed: flake.nix",
        "changed: profiles/core.nix (comments and layout only)",
        "added: profiles/e2e-unused.nix",
        &format!("an upgrade does not restart {U}"),
    ] {
        ensure!(diff.stdout.contains(word), "`diff` does not say {word}:\n{diff}");
    }
    let same = world.nixvm(&["upgrade", U, "--json"])?.ok()?;
    said(&same, &["nothing to do", "same system"])?;
    let json: Value = serde_json::from_str(&same.stdout)?;
    ensure!(json[0]["outcome"] == "up-to-date" && json[0]["from"] == json[0]["to"], "{json}");
    let again = world.nixvm(&["upgrade", U])?.ok()?;
    said(&again, &["up to date"])?;
    ensure!(guest(world)? == before, "a comment restarted the machine:\n{same}\n{again}");
    ensure!(numbers(world)? == current, "a comment made a generation: {:?}", generations(world)?);
    tell!("the same system from other files: {:.1} s; once more: {:.1} s", same.seconds, again.seconds);

    let setting = "{ environment.etc.\"e2e-profile\".text = \"1\"; systemd.services.e2e-new = { \
                   serviceConfig.ExecStart = \"/bin/sh -c true\"; }; }";
    fs::write(&profile, format!("{{ imports = [ ./e2e-core.nix ({setting}) ]; }}\n"))?;
    fs::write(workspace.join("profiles/e2e-core.nix"), &saved[1].1)?;
    let diff: Value = serde_json::from_str(&world.nixvm(&["diff", U, "--json"])?.ok()?.stdout)?;
    let named = |list: &str, key: &str, name: &str| {
        diff[list].as_array().is_some_and(|all| all.iter().any(|change| change[key] == name))
    };
    ensure!(diff["same"] == false && diff["restart"] == true, "{diff:#}");
    ensure!(named("sources", "file", "profiles/core.nix"), "{diff:#}");
    ensure!(named("units", "unit", "e2e-new.service"), "{diff:#}");
    ensure!(guest(world)? == before, "`diff` restarted the machine");

    for (path, text) in saved {
        fs::write(path, text)?;
    }
    fs::remove_file(&unused)?;
    fs::remove_file(workspace.join("profiles/e2e-core.nix"))?;
    host::write_private(&files.join("tcp_ports"), &ports)?;
    match extra_nix {
        Some(text) => extra(world, &text)?,
        None => fs::remove_file(files.join("extra.nix"))?,
    }
    said(&world.nixvm(&["upgrade", U])?.ok()?, &[U])?;
    ensure!(guest(world)? == before, "the old files restarted the machine");
    Ok(Outcome::Passed)
}

pub fn what_fails_unseen_is_named_and_a_rollback_is_measured_by_itself(world: &mut World) -> Result<Outcome> {
    let before = machine(world)?;
    let (good, _) = numbers(world)?;
    let harmless = world.file(U, "extra.nix").ok();
    extra(world, FAILING_UNITS)?;
    let unseen = world.nixvm(&["upgrade", U, "--no-health", "--json"])?.ok()?;
    let json: Value = serde_json::from_str(&unseen.stdout)?;
    ensure!(json[0]["outcome"] == "upgraded" && json[0]["downtime"].is_null(), "{json}");
    let (bad, running) = numbers(world)?;
    ensure!(bad == running && bad > good, "generations are {:?}", generations(world)?);
    ensure!(!unseen.stderr.contains("Looking at"), "--no-health looked:\n{unseen}");
    world.nixvm(&["start", U, "--wait"])?.ok()?;
    process::wait_for(Duration::from_secs(600), || {
        Ok((world.admin(U, &["systemctl", "is-system-running"])?.text() == "degraded").then_some(()))
    })?
    .context("the guest did not start everything")?;

    let seen = world.nixvm(&["upgrade", U, "--json"])?.ok()?;
    said(&seen, &["fail", "e2e-broken.service", "e2e-other.service"])?;
    let json: Value = serde_json::from_str(&seen.stdout)?;
    ensure!(json[0]["failing"] == serde_json::json!(["e2e-broken.service", "e2e-other.service"]), "{json}");
    let back = world.nixvm(&["rollback", U, &good.to_string(), "--json"])?.ok()?;
    let json: Value = serde_json::from_str(&back.stdout)?;
    ensure!(json["failing"] == serde_json::json!([]), "{json}");
    // What fails in it was seen to fail, so it comes up as it always did.
    let forth = world.nixvm(&["rollback", U, &bad.to_string()])?.ok()?;
    said(&forth, &["e2e-broken.service"])?;
    ensure!(guest(world)?.data == before.data, "the data changed");
    match harmless {
        Some(harmless) => extra(world, &harmless)?,
        None => fs::remove_file(world.machine_dir(U).join("extra.nix"))?,
    }
    Ok(Outcome::Passed)
}

pub fn a_rollback_takes_a_second_beside_the_boot(world: &mut World) -> Result<Outcome> {
    let before = machine(world)?;
    let (current, _) = numbers(world)?;
    if current == 1 {
        extra(world, GOOD)?;
        world.nixvm(&["upgrade", U])?.ok()?;
    }
    world.nixvm(&["rollback", U, "99"])?.refused(1, &["99"])?;
    let done = world.nixvm(&["rollback", U, "1", "--json"])?.ok()?;
    let json: Value = serde_json::from_str(&done.stdout)?;
    let seconds = json["seconds"].as_f64().context("no time was measured")?;
    let now = guest(world)?;
    ensure!(now.data == before.data && now.boot != before.boot, "{before:?}, now {now:?}");
    ensure!(numbers(world)? == (1, 1), "generations are {:?}", generations(world)?);
    world.guest_root(U, "test ! -e /etc/e2e-upgraded")?.ok()?;
    tell!(
        "rollback: {:.1} s, {seconds:.2} s beside the restart, {} the budget of 1 s",
        done.seconds,
        host::against(seconds, 1.0)
    );
    ensure!(seconds <= 1.0, "{seconds} s beside the restart");
    Ok(Outcome::Passed)
}

pub fn clean_frees_what_nothing_needs_and_says_so_first(world: &mut World) -> Result<Outcome> {
    machine(world)?;
    let data = || {
        host::volumes_of(&world.pool, U)
            .map(|all| all.into_iter().filter(|v| v.contains("data")).collect::<Vec<_>>())
    };
    let before = data()?;
    // One build with a base image to itself that two later ones leave behind; the guest runs on.
    let (whole, one, two) = (
        "{ nixvm.image.layout = \"whole\"; boot.kernelParams = [ \"e2e.clean\" ]; }\n",
        "{ environment.etc.\"e2e-clean\".text = \"1\"; }\n",
        "{ environment.etc.\"e2e-clean\".text = \"2\"; }\n",
    );
    for text in [whole, one, two] {
        extra(world, text)?;
        world.nixvm(&["upgrade", U, "--no-start"])?.ok()?;
    }
    let volumes = host::volumes(&world.pool)?;
    // What was just put there may be about to be used.
    for base in volumes.iter().filter(|volume| volume.starts_with("nixvm-base-")) {
        process::root("touch", &["-d", "2 hours ago", &host::volume_path(&world.pool, base)?])?;
    }
    host::virsh(&["pool-refresh", &world.pool])?;
    let used = generations(world)?;
    let dry = world.nixvm(&["clean", "--dry-run", "--json"])?.ok()?;
    ensure!(host::volumes(&world.pool)? == volumes, "a dry run deleted something:\n{dry}");
    let listed: Vec<Value> = serde_json::from_str(&dry.stdout)?;
    for kind in ["generation", "base"] {
        ensure!(listed.iter().any(|item| item["kind"] == kind), "no {kind} is listed:\n{dry}");
    }
    world.nixvm(&["clean"])?.refused(2, &["--yes"])?;
    let done = world.nixvm(&["clean", "--yes"])?.ok()?;
    let left = host::volumes(&world.pool)?;
    for item in listed.iter().filter_map(|item| item["volume"].as_str()) {
        ensure!(
            volumes.iter().any(|v| v == item) && !left.iter().any(|v| v == item),
            "{item} is still there"
        );
    }
    ensure!(data()? == before, "clean deleted data: {before:?}, now {:?}", data()?);
    for generation in generations(world)? {
        ensure!(!generation["bytes"].is_null(), "clean deleted a generation that is listed: {generation}");
    }
    world.guest_root(U, "sha256sum /usr/bin/env /run/current-system/init > /dev/null")?.ok()?;
    let nothing = world.nixvm(&["clean", "--dry-run"])?.ok()?;
    ensure!(nothing.stdout.contains("nothing to delete"), "after a clean:\n{nothing}");
    tell!(
        "{} of {} generations stay; {} volumes of {} deleted in {:.1} s",
        generations(world)?.len(),
        used.len(),
        volumes.len() - left.len(),
        volumes.len(),
        done.seconds
    );
    world.nixvm(&["purge", U, "--yes"])?.ok()?;
    fs::metadata(world.machine_dir(U)).is_err().then_some(()).context("purge left the files")?;
    Ok(Outcome::Passed)
}
