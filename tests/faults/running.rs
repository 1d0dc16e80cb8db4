//! Commands that restart a machine that runs, with nobody in its guest.
//!
//! A boot would add a minute to each point. So the guest is suspended at once or has nothing to boot from, and where nixvm
//! waits for it to go down, it is switched off instead of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{Outcome, tell};
use crate::host;
use crate::process::{root, run, wait_for};
use crate::world::World;

use super::data;
use super::generations::{MARKER, current, one, whole};
use super::kill::{Case, Middle, at_every_boundary, begun, killed_when};
use super::making::{K, gone};
use super::saved::Saved;

/// Starts the machine and stops its guest before it does anything.
pub fn suspended(world: &World, machine: &str) -> Result<()> {
    world.nixvm(&["start", machine])?.ok()?;
    host::virsh(&["suspend", machine]).map(drop)
}

/// Takes from the machine, which is off, what it could boot from: libvirt asks no guest to shut down that is suspended.
pub fn make_unbootable(world: &World, machine: &str) -> Result<()> {
    let volume = host::volume(&world.pool, machine, "boot-1")?;
    root("qemu-io", &["-f", "qcow2", "-c", "write -z 0 64k", &volume]).map(drop)
}

/// Returns the middle of waiting for the guest of `K` to go down.
pub fn shutdown(world: &World) -> Middle {
    const STEP: &str = "shut the machine down";
    let journal = world.workspace.join(format!("output/work/{K}.json"));
    let at_it = move || -> Option<bool> {
        let entry: Value = serde_json::from_slice(&fs::read(&journal).ok()?).ok()?;
        let done = usize::try_from(entry["done"].as_u64()?).ok()?;
        let since = journal.metadata().ok()?.modified().ok()?.elapsed().ok()?;
        Some(entry["steps"][done]["title"] == STEP && since > Duration::from_secs(1))
    };
    Middle { of: STEP, begun: true, reached: Box::new(move || Ok(at_it().unwrap_or(false))) }
}

/// Stands in for the guest of `K` and goes down whenever nixvm asks for it.
struct Guest {
    listens: Child,
    asked: Arc<AtomicUsize>,
}

impl Guest {
    fn begin() -> Result<Self> {
        Self::that_takes(Duration::ZERO)
    }

    /// Does the same with a guest that is not off before so much time has passed.
    fn that_takes(time: Duration) -> Result<Self> {
        // One virsh for all of it: between two, a request would be missed.
        let mut listen = Command::new("stdbuf");
        listen.args(["-oL", "virsh", "--quiet", "--connect", "qemu:///system"]);
        listen.args(["qemu-monitor-event", "--event", "POWERDOWN", "--loop"]);
        let mut listens = listen.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let requests = listens.stdout.take().context("it says nothing")?;
        let asked = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            let lines = BufReader::new(requests).lines().map_while(std::result::Result::ok);
            lines.filter(|line| line.contains(K)).for_each(|_| {
                count.fetch_add(1, Ordering::Relaxed);
                thread::sleep(time);
                drop(host::virsh_any(&["destroy", K]));
            });
        });
        Ok(Guest { listens, asked })
    }

    /// Begins a command and returns it once it has asked the guest to shut down.
    fn asked_by(&self, world: &World, command: &[&str]) -> Result<Child> {
        let before = self.asked.load(Ordering::Relaxed);
        begun(world, command, &|| Ok(self.asked.load(Ordering::Relaxed) > before))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.listens.kill();
        let _ = self.listens.wait();
    }
}

/// Makes a machine that has one generation, which is never up, is declared to have another, and is off.
fn unbootable(world: &World) -> Result<Saved> {
    one(world)?;
    make_unbootable(world, K)?;
    Saved::of(world, K)
}

/// Returns how that generation is said to have come up.
fn health(world: &World, number: u64) -> Result<String> {
    let listed = world.nixvm(&["generations", K, "--json"])?.ok()?;
    let all: Vec<Value> = serde_json::from_str(&listed.stdout)?;
    let one = all.iter().find(|generation| generation["number"] == number);
    Ok(one.and_then(|one| one["health"].as_str()).unwrap_or("not there").to_owned())
}

/// Returns the generation that runs; `None` where none does.
fn runs() -> Result<Option<u64>> {
    let xml = host::virsh(&["dumpxml", K])?.stdout;
    // What is off shows its definition.
    if host::attribute(&xml, "domain", "id").is_none() {
        return Ok(None);
    }
    let number = xml.split(&format!("{K}.boot-")).nth(1).and_then(|rest| rest.split('.').next());
    Ok(number.and_then(|number| number.parse().ok()))
}

/// Which generation runs, if any, and which one the machine is defined on.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    runs: Option<u64>,
    defined: u64,
}

fn seen(world: &World) -> Result<Seen> {
    Ok(Seen { runs: runs()?, defined: current(world)? })
}

/// Kills a command at every boundary that restarts the machine, which runs when it begins.
fn restarted(
    world: &World,
    saved: &Saved,
    (command, ends): (&[&str], i32),
    survived: &dyn Fn(&Seen) -> Result<bool>,
    completed: &dyn Fn(&Seen) -> Result<bool>,
) -> Result<Outcome> {
    let _guest = Guest::begin()?;
    let holds = |what: &dyn Fn(&Seen) -> Result<bool>| {
        whole(world)?;
        let seen = seen(world)?;
        ensure!(what(&seen)?, "{seen:?}");
        Ok(())
    };
    let case = Case {
        command,
        machine: K,
        ends,
        prepare: &|world| {
            saved.put_back(world)?;
            world.nixvm(&["start", K])?.ok().map(drop)
        },
        survived: &|_| holds(survived),
        completed: &|_| holds(completed),
    };
    at_every_boundary(world, &case)?;
    gone(world, K).map(|()| Outcome::Passed)
}

pub fn upgrade_of_a_running_machine_killed_anywhere_is_completed_by_upgrade(
    world: &mut World,
) -> Result<Outcome> {
    let saved = unbootable(world)?;
    let command = &["upgrade", K, "--no-health"];
    // What was not asked to go down goes on as it was.
    let survived = |seen: &Seen| Ok(seen.runs == Some(1) || seen.defined == 2);
    restarted(world, &saved, (command, 0), &survived, &|seen| Ok(*seen == Seen { runs: Some(2), defined: 2 }))
}

/// No guest of these ever comes up as nixvm wants it, so every upgrade goes all the way back.
pub fn an_upgrade_that_is_taken_back_killed_anywhere_is_taken_back_by_upgrade(
    world: &mut World,
) -> Result<Outcome> {
    let saved = unbootable(world)?;
    let world: &World = world;
    let judged = || Ok::<_, anyhow::Error>(health(world, 2)? == "unhealthy");
    // It is off only where it is known by then which generation is to be started.
    let survived = |seen: &Seen| Ok(seen.runs.is_some() || seen.defined == 2 || judged()?);
    let completed = |seen: &Seen| Ok(*seen == Seen { runs: Some(1), defined: 1 } && judged()?);
    restarted(world, &saved, (&["upgrade", K, "--timeout", "4"], 3), &survived, &completed)
}

pub fn rollback_of_a_running_machine_killed_anywhere_is_completed_by_rollback(
    world: &mut World,
) -> Result<Outcome> {
    unbootable(world)?;
    world.nixvm(&["upgrade", K])?.ok()?;
    let (saved, world): (Saved, &World) = (Saved::of(world, K)?, world);
    let survived = |seen: &Seen| Ok(seen.runs == Some(2) || seen.defined == 1);
    let judged = || Ok::<_, anyhow::Error>(health(world, 1)? == "unhealthy");
    let completed = |seen: &Seen| Ok(*seen == Seen { runs: Some(1), defined: 1 } && judged()?);
    // It is on generation 1 then, and says that this is not well.
    restarted(world, &saved, (&["rollback", K, "1", "--timeout", "4"], 1), &survived, &completed)
}

pub fn reboot_killed_anywhere_is_completed_by_reboot(world: &mut World) -> Result<Outcome> {
    let saved = unbootable(world)?;
    let as_it_was = |seen: &Seen| Ok(seen.defined == 1);
    let completed = |seen: &Seen| Ok(*seen == Seen { runs: Some(1), defined: 1 });
    restarted(world, &saved, (&["reboot", K], 0), &as_it_was, &completed)
}

pub fn recreate_of_a_running_machine_killed_anywhere_is_completed_by_recreate(
    world: &mut World,
) -> Result<Outcome> {
    let saved = unbootable(world)?;
    let world: &World = world;
    let identity = || -> Result<String> {
        let files = ["machine-id", "mac-address", "ssh_host_ed25519_key"].map(|file| world.file(K, file));
        Ok(files.into_iter().collect::<Result<Vec<_>>>()?.concat())
    };
    let before = identity()?;
    let has_marker = |world: &World| Ok::<_, anyhow::Error>(data::read(world, K)? == MARKER);
    let _guest = Guest::begin()?;
    at_every_boundary(
        world,
        &Case {
            command: &["recreate", K, "--yes"],
            machine: K,
            ends: 0,
            prepare: &|world| {
                saved.put_back(world)?;
                world.nixvm(&["start", K])?.ok().map(drop)
            },
            survived: &|world| {
                // The old disks, or the new ones; and nothing is switched off before the new ones are there.
                let volumes = host::volumes_of(&world.pool, K)?;
                let new = volumes.iter().any(|volume| volume.contains(".boot-2"));
                ensure!(
                    has_marker(world)? || new,
                    "the data is gone, and there are no new disks: {volumes:?}"
                );
                ensure!(runs()?.is_some() || new, "it was switched off for nothing: {volumes:?}");
                host::unchanged("`recreate`, of the identity,", &before, &identity()?)
            },
            completed: &|world| {
                ensure!(!has_marker(world)?, "the old data is there");
                // Killed behind the definition and run again it is a second one, with disks of its own.
                let seen = seen(world)?;
                ensure!(seen.runs == Some(seen.defined) && seen.defined > 1, "{seen:?}");
                host::unchanged("`recreate`, of the identity,", &before, &identity()?)
            },
        },
    )?;
    gone(world, K).map(|()| Outcome::Passed)
}

/// Asked to end at every boundary, as by a terminal that is closed: a machine that ran runs afterwards, on whole disks.
pub fn a_machine_that_ran_runs_on_whoever_ends_the_command(world: &mut World) -> Result<Outcome> {
    let saved = unbootable(world)?;
    let _guest = Guest::begin()?;
    for command in [&["upgrade", K, "--no-health"][..], &["recreate", K, "--yes"]] {
        let mut points = 0;
        loop {
            saved.put_back(world)?;
            world.nixvm(&["start", K])?.ok()?;
            let mut asked = world.command(command);
            asked.env("NIXVM_DIE_AFTER", points.to_string()).env("NIXVM_DIE_BY", "TERM");
            let ended = run(&mut asked, b"", Duration::from_secs(600))?;
            let seen = seen(world)?;
            // What is defined and was not yet begun comes with its next start.
            ensure!(seen.runs.is_some(), "it is off after {points} steps: {seen:?}\n{ended}");
            // `recreate` is to give it new data.
            if command[0] == "upgrade" {
                whole(world)?;
            }
            if ended.code == 0 {
                break;
            }
            ensure!(ended.code == 143, "it was asked to end after {points} steps, and failed:\n{ended}");
            points += 1;
        }
        ensure!(points > 1, "no step of `nixvm {}` was reached", command.join(" "));
        tell!("asked to end at {points} points: nixvm {}", command.join(" "));
    }
    gone(world, K).map(|()| Outcome::Passed)
}

/// Asked to end while it waits for a guest that it has asked to shut down: the guest goes off, and is started again.
pub fn a_guest_that_was_told_to_shut_down_runs_on_whoever_ends_the_command(
    world: &mut World,
) -> Result<Outcome> {
    const TAKES: Duration = Duration::from_secs(3);
    let saved = unbootable(world)?;
    let guest = Guest::that_takes(TAKES)?;
    let begin = |command: &[&str]| -> Result<(Child, Option<String>)> {
        saved.put_back(world)?;
        world.nixvm(&["start", K])?.ok()?;
        let before = process_of()?;
        Ok((guest.asked_by(world, command)?, before))
    };
    let commands = [&["upgrade", K, "--no-health"][..], &["recreate", K, "--yes"], &["reboot", K]];
    for (command, signal) in commands.into_iter().zip([Signal::TERM, Signal::INT, Signal::HUP]) {
        let (mut child, before) = begin(command)?;
        kill_process(Pid::from_child(&child), signal)?;
        // A session that ends sends two, and they are one request.
        thread::sleep(Duration::from_millis(500));
        if signal != Signal::HUP {
            kill_process(Pid::from_child(&child), Signal::HUP)?;
        }
        let ended = child.wait()?;
        ensure!(ended.code().is_some_and(|code| code > 128), "{command:?} ended with {ended}");
        let now = process_of()?;
        ensure!(now.is_some() && now != before, "{command:?} left {K} in the QEMU {now:?}, of {before:?}");
    }

    // The same a second time waits for nobody; the next command of that kind starts it.
    let (mut child, _) = begin(&["reboot", K])?;
    for _ in 0..2 {
        kill_process(Pid::from_child(&child), Signal::TERM)?;
        thread::sleep(Duration::from_millis(500));
    }
    ensure!(child.try_wait()?.is_some_and(|ended| ended.code() == Some(143)), "it goes on waiting");
    ensure!(runs()?.is_some(), "the guest went off at once");
    let off = || Ok(runs()?.is_none().then_some(()));
    wait_for(Duration::from_secs(60), off)?.context("the guest did not go off")?;
    world.nixvm(&["reboot", K])?.ok()?;
    ensure!(runs()?.is_some(), "`reboot` did not complete");

    // Whoever asks for off has it.
    let (mut child, _) = begin(&["stop", K])?;
    kill_process(Pid::from_child(&child), Signal::TERM)?;
    child.wait()?;
    wait_for(Duration::from_secs(60), off)?.context("the guest did not go off")?;
    thread::sleep(Duration::from_secs(1));
    ensure!(runs()?.is_none(), "`stop` started it again");
    tell!("interrupted while the guest goes down: upgrade, recreate, reboot, stop");
    gone(world, K).map(|()| Outcome::Passed)
}

/// Returns which QEMU runs `K`: libvirt's number for it, which is another one at each start.
fn process_of() -> Result<Option<String>> {
    let xml = host::virsh(&["dumpxml", K])?.stdout;
    Ok(host::attribute(&xml, "domain", "id").map(str::to_owned))
}

/// Killed while it waits for the guest, and run again: no guest of these ever comes up, so it is taken back.
pub fn upgrade_killed_while_the_guest_comes_up_is_judged_by_the_next(world: &mut World) -> Result<Outcome> {
    let command = ["upgrade", K, "--timeout", "3"];
    unbootable(world)?;
    world.nixvm(&["start", K])?.ok()?;
    let _guest = Guest::begin()?;
    killed_when(world, &["upgrade", K], &|| Ok(runs()? == Some(2) && host::state(K)? == "running"))?;
    host::virsh(&["suspend", K])?;
    let status = world.nixvm(&["status", K, "--json"])?.ok()?;
    let json: Value = serde_json::from_str(&status.stdout)?;
    let place = json["work"]["place"].as_str().unwrap_or_default();
    ensure!(json["generation"] == 2 && json["state"] == "paused", "`status` says {json}");
    ensure!(place.contains("wait until it comes up") || place.contains("start"), "`status` says {json}");
    whole(world)?;

    let taken_back = world.nixvm(&command)?.refused(3, &["generation 1 was started again"])?;
    whole(world)?;
    let seen = seen(world)?;
    ensure!(seen == Seen { runs: Some(1), defined: 1 }, "{seen:?} after\n{taken_back}");
    let status = world.nixvm(&["status", K, "--json"])?.ok()?;
    let json: Value = serde_json::from_str(&status.stdout)?;
    ensure!(json["work"].is_null() && json["generation"] == 1, "`status` says {json}");
    ensure!(data::read(world, K)? == MARKER, "the data of {K} changed");
    tell!("1 kill point in the middle: nixvm upgrade {K}: wait until it comes up");
    gone(world, K).map(|()| Outcome::Passed)
}
