//! What `set`, `passwd`, `network-config` and `logs` say, and what the guest has then.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::console::Console;
use crate::harness::{Outcome, tell};
use crate::host;
use crate::process::{run, wait_for};
use crate::world::World;

const M: &str = "e2e-t";
const PASSWORD: &str = "p4ss & \"w0rd\" $HOME";

/// Two boots for all of them.
pub fn what_a_machine_is_set_to_is_in_force_when_the_output_says(world: &mut World) -> Result<Outcome> {
    world
        .nixvm(&["create", M, "core", "1024", "1", "256M", "nat", "--from-agent", "--start", "--wait"])?
        .ok()?;
    journal(world)?;
    journal_as_it_grows(world)?;
    journal_until_nobody_reads(world)?;
    journal_without_ssh(world)?;
    live(world)?;
    let hash = password(world)?;

    let (wanted, when) = match host::is_emulated(M)? {
        true => ("1", "at the next start with KVM; an emulated guest has one"),
        false => ("2", "at the next start"),
    };
    let said = world.nixvm(&["set", M, "memory=1200M", "vcpus=2"])?.ok()?;
    ensure!(
        said.text() == format!("memory: 512M -> 1200M, at the next start\nvcpus: 1 -> 2, {when}"),
        "of what only a start brings, `set` says\n{said}"
    );
    let said = world.nixvm(&["network-config", M, "nat"])?.ok()?;
    ensure!(said.stderr.contains("is nat already"), "of a network that stays, it says\n{said}");
    let began = Instant::now();
    let said = world.nixvm(&["network-config", M, "user", "--now", "--wait"])?.ok()?;
    tell!("restart for a network: {:.1} s", began.elapsed().as_secs_f64());
    ensure!(said.stderr.contains("shutting"), "nothing was said before the machine went down:\n{said}");
    ensure!(host::defined(M)?.contains("hostfwd=tcp:127.0.0.1:"), "the domain has another network");

    let has =
        world.guest_root(M, "nproc; grep MemTotal /proc/meminfo; getent shadow root | cut -d: -f2")?.ok()?;
    let lines: Vec<&str> = has.stdout.lines().collect();
    let [processors, memory, shadow] = lines[..] else { anyhow::bail!("three lines expected:\n{has}") };
    ensure!(processors == wanted, "the guest has {processors} processors");
    let kib: u64 = memory.split_whitespace().nth(1).context("no number")?.parse()?;
    ensure!((1050 << 10..1200 << 10).contains(&kib), "the guest has {kib} KiB of memory");
    ensure!(shadow == hash, "the guest has another hash than the file");
    let mut console = Console::open(world, M)?;
    console.log_in("not it", "ncorrect")?;
    console.log_in(PASSWORD, "#")?;
    console.send("exit\r")?;
    console.expect("login:")?;
    console.leave()?;

    world.nixvm(&["stop", M])?.ok()?;
    off(world)?;
    world.nixvm(&["purge", M, "--yes"])?.ok()?;
    Ok(Outcome::Passed)
}

/// What a running guest takes at once.
fn live(world: &World) -> Result<()> {
    let var = |world: &World| -> Result<u64> {
        let said = world.guest_root(M, "df --output=size -B1 /var | tail -n 1")?.ok()?;
        said.text().trim().parse().with_context(|| format!("df says {said}"))
    };
    let before = var(world)?;
    let began = Instant::now();
    let said = world.nixvm(&["set", M, "var_size=512M", "memory=512M"])?.ok()?;
    ensure!(
        said.text() == "memory: 1G -> 512M, now\nvar_size: 256M -> 512M, now",
        "of what is in force at once, `set` says\n{said}"
    );
    let grown = wait_for(Duration::from_secs(60), || Ok(Some(var(world)?).filter(|size| *size > 400 << 20)))?;
    let grown = grown.with_context(|| format!("/var has {before} bytes as before"))?;
    tell!("/var from {before} to {grown} bytes: {:.1} s", began.elapsed().as_secs_f64());
    let shrunk = wait_for(Duration::from_secs(60), || {
        let stats = host::virsh(&["dommemstat", M])?;
        Ok(stats.stdout.lines().any(|line| line == "actual 524288").then_some(()))
    })?;
    shrunk.context("the guest does not give memory back")?;

    let files = host::tree(&world.machine_dir(M))?;
    for bad in
        [&["set", M, "vcpus=4", "var_size=500M"][..], &["set", M, "--memory", "2G", "--var-size", "64M"]]
    {
        world.nixvm(bad)?.refused(1, &["512M", "only grow"])?;
        host::unchanged("`set`, though refused,", &files, &host::tree(&world.machine_dir(M))?)?;
    }
    Ok(())
}

/// Sets a password as a person does, who sees none of it, and returns its hash.
fn password(world: &World) -> Result<String> {
    let mut terminal = Console::run(world, &["passwd", M])?;
    terminal.expect("New password of root")?;
    terminal.send(&format!("{PASSWORD}\r"))?;
    terminal.expect("Once more")?;
    terminal.send("something else\r")?;
    terminal.expect("differ")?;
    terminal.expect("New password of root")?;
    terminal.send(&format!("{PASSWORD}\r"))?;
    terminal.expect("Once more")?;
    terminal.send(&format!("{PASSWORD}\r"))?;
    let (code, said) = terminal.end()?;
    ensure!(code == 0 && said.contains("nixvm reboot"), "`passwd` ended with {code}:\n{said}");
    ensure!(!said.contains("p4ss") && !said.contains("something"), "a password was shown:\n{said}");
    let hash = world.file(M, "root_password_hash")?.trim().to_owned();
    ensure!(hash.starts_with("$y$"), "the file holds no yescrypt hash");
    Ok(hash)
}

/// At a terminal, until ^C.
fn journal_as_it_grows(world: &World) -> Result<()> {
    let mut follow = Console::run(world, &["logs", M, "-n", "20", "-f"])?;
    // Its own login: from here on it is in the guest.
    follow.expect("session opened")?;
    world.guest_root(M, "logger -t e2e-logs 'while it is watched'")?.ok()?;
    follow.expect("while it is watched")?;
    follow.send("\x03")?;
    let (code, said) = follow.end()?;
    ensure!(code == 130, "^C ended it with {code}:\n{said}");
    Ok(())
}

/// Who has seen enough makes no error of it.
fn journal_until_nobody_reads(world: &World) -> Result<()> {
    let nixvm = world.command(&["logs", M, "-n", "100000"]);
    let words = std::iter::once(nixvm.get_program()).chain(nixvm.get_args());
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", "\"$@\" | head -n 1; exit ${PIPESTATUS[0]}", "bash"]).args(words);
    bash.envs(nixvm.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let said = run(&mut bash, b"", Duration::from_secs(120))?.ok()?;
    ensure!(said.stdout.lines().count() == 1 && said.stderr.is_empty(), "one line is\n{said}");
    Ok(())
}

/// Through the agent alone, which can show what there is and not what comes.
fn journal_without_ssh(world: &World) -> Result<()> {
    world.guest_root(M, "systemctl stop sshd.service")?.ok()?;
    let said = world.nixvm(&["logs", M, "-n", "2000", "--json"])?.ok()?;
    let json: serde_json::Value = serde_json::from_str(&said.stdout)?;
    ensure!(
        json["source"] == "journal" && said.stdout.contains("while it is watched"),
        "without ssh, the log is\n{said}"
    );
    let unit = world.nixvm(&["logs", M, "-u", "systemd-journald"])?.ok()?;
    ensure!(unit.stdout.contains("systemd-journald"), "without ssh, one unit's log is\n{unit}");
    world.nixvm(&["logs", M, "-u", "sshd", "-f"])?.refused(1, &["does not answer ssh", "--follow"])?;
    let start = r#"{"execute":"guest-exec","arguments":{"path":"/bin/sh","arg":["-c","systemctl start sshd.service"]}}"#;
    host::virsh(&["qemu-agent-command", M, start])?;
    let back = || Ok((world.admin(M, &["true"])?.code == 0).then_some(()));
    wait_for(Duration::from_secs(60), back)?.context("sshd does not come back")
}

fn journal(world: &World) -> Result<()> {
    let log =
        "logger -t e2e-logs 'in the journal'; logger -t e2e-logs \"$(printf '\\033[2J\\033]0;title\\007')\"";
    world.guest_root(M, &format!("{log}; journalctl --sync || true"))?.ok()?;
    let said = world.nixvm(&["logs", M, "-n", "2000"])?.ok()?;
    ensure!(said.stdout.contains("in the journal"), "the journal says\n{said}");
    ensure!(!said.stdout.contains(['\x1b', '\x07']), "not fit for a terminal:\n{said}");
    let unit = world.nixvm(&["logs", M, "-u", "systemd-journald", "-n", "3", "--json"])?.ok()?;
    let json: serde_json::Value = serde_json::from_str(&unit.stdout)?;
    let lines = json["lines"].as_array().context("no lines")?;
    ensure!(json["source"] == "journal" && (1..=4).contains(&lines.len()), "one unit's journal is\n{unit}");
    let nobody = world.nixvm(&["logs", M, "-u", "no-such $(touch /tmp/oops)"])?.ok()?;
    ensure!(!nobody.stdout.contains("in the journal"), "another unit's journal is\n{nobody}");
    world.guest_root(M, "test ! -e /tmp/oops")?.ok()?;
    Ok(())
}

/// What holds for a machine that is off.
fn off(world: &World) -> Result<()> {
    let serial = world.nixvm(&["logs", M, "-n", "50"])?.ok()?;
    ensure!(serial.stdout.contains("Power down"), "the serial log ends with\n{serial}");
    ensure!(!serial.stdout.contains('\x1b'), "not fit for a terminal:\n{serial}");
    world.nixvm(&["logs", M, "-u", "sshd"])?.refused(1, &["is off", "--serial"])?;

    // A size that was written by hand grows the disk at the next start, and a smaller one does nothing.
    host::write_private(&world.machine_dir(M).join("var_size"), "600M\n")?;
    let started = world.nixvm(&["start", M])?.ok()?;
    ensure!(
        started.stderr.contains("from 512M to 600M"),
        "`start` does not say that it grew the disk:\n{started}"
    );
    world.nixvm(&["force-stop", M])?.ok()?;
    host::write_private(&world.machine_dir(M).join("var_size"), "100M\n")?;
    let started = world.nixvm(&["start", M])?.ok()?;
    ensure!(
        started.stderr.contains("a disk never shrinks"),
        "`start` does not say that the disk stays:\n{started}"
    );
    world.nixvm(&["force-stop", M])?.ok()?;
    let said = world.nixvm(&["set", M, "var_size=700M"])?.ok()?;
    ensure!(said.text() == "var_size: 100M -> 700M, now", "`set` says\n{said}");
    Ok(())
}
