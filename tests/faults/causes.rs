//! What ends or hinders a command beside SIGKILL: a request to end, a disk that fills up, a standard error that is gone.
//!
//! A request comes from within, by `NIXVM_DIE_BY`. For the disk nixvm holds itself up at the boundary by SIGSTOP, the file system
//! that has the workspace and the pool shrinks to what is used of it, and nixvm goes on.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::tell;
use crate::host;
use crate::process::{Output, root, run};
use crate::world::World;

use super::kill::Case;

const LIMIT: Duration = Duration::from_secs(600);

/// Has each cause met at each boundary. Without it they take turns, one at a boundary: all of them take half an hour more.
const ALL: &str = "NIXVM_FAULTS";

/// Lets the command meet the causes at its boundaries, of which there are so many: one meets a request to end, the next a full disk.
pub fn at_every_boundary(world: &World, case: &Case, points: usize) -> Result<()> {
    let command = case.command.join(" ");
    let all = std::env::var_os(ALL).is_some_and(|value| value == "all");
    let (mut requests, mut full, mut failed) = (0, 0, 0);
    for done in 0..points {
        if all || done % 2 == 0 {
            let (name, code) = [("TERM", 143), ("HUP", 129), ("INT", 130)][requests % 3];
            let met = asked_to_end(world, case, done, name, code);
            met.with_context(|| format!("`nixvm {command}`, sent SIG{name} after {done} steps"))?;
            requests += 1;
        }
        if all || done % 2 == 1 {
            let met = on_a_full_disk(world, case, done);
            let met =
                met.with_context(|| format!("`nixvm {command}`, whose disk was full after {done} steps"))?;
            full += 1;
            failed += usize::from(met);
        }
    }
    for hindrance in [Hindrance::FullStandardError, Hindrance::ClosedStandardError] {
        let met = || -> Result<()> {
            (case.prepare)(world)?;
            hindered(world, case.command, hindrance)?.fails(case.ends)?;
            (case.completed)(world)
        };
        met().with_context(|| format!("`nixvm {command}` with {hindrance:?}"))?;
    }
    tell!("{requests} requests to end and {full} full disks, of which {failed} ended it: nixvm {command}");
    Ok(())
}

fn asked_to_end(world: &World, case: &Case, done: usize, signal: &str, code: i32) -> Result<()> {
    (case.prepare)(world)?;
    let ran = runs(case)?;
    let mut command = world.command(case.command);
    let ended =
        run(command.env("NIXVM_DIE_AFTER", done.to_string()).env("NIXVM_DIE_BY", signal), b"", LIMIT)?;
    // Behind its last step there is nothing to end.
    ensure!(ended.code == code || ended.code == case.ends, "it failed otherwise:\n{ended}");
    completes(world, case, &ended, ran)
}

/// Returns whether the full disk ended the command.
fn on_a_full_disk(world: &World, case: &Case, done: usize) -> Result<bool> {
    let disk = world.disk.as_deref().context("this world has no disk of its own")?;
    (case.prepare)(world)?;
    let ran = runs(case)?;
    let mut command = world.command(case.command);
    command.env("NIXVM_DIE_AFTER", done.to_string()).env("NIXVM_DIE_BY", "STOP");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    held_up(&mut child)?;
    fill(disk)?;
    kill_process(Pid::from_child(&child), Signal::CONT)?;
    let ended = ended(child, case.command)?;
    empty(disk)?;
    // A bug of nixvm's is 101 or 255.
    ensure!([case.ends, 1, 3].contains(&ended.code), "it failed otherwise:\n{ended}");
    completes(world, case, &ended, ran)?;
    Ok(ended.code != case.ends)
}

/// What hinders a command from its beginning to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    FullDisk,
    FullStandardError,
    ClosedStandardError,
}

impl Hindrance {
    pub const ALL: [Self; 3] = [Self::FullDisk, Self::FullStandardError, Self::ClosedStandardError];
}

/// Returns what came of a command that is hindered.
pub fn hindered(world: &World, words: &[&str], hindrance: Hindrance) -> Result<Output> {
    let disk = world.disk.as_deref().context("this world has no disk of its own")?;
    let mut command = world.command(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match hindrance {
        Hindrance::FullDisk => fill(disk)?,
        Hindrance::FullStandardError => drop(command.stderr(File::options().write(true).open("/dev/full")?)),
        // Whoever read it has gone.
        Hindrance::ClosedStandardError => drop(command.stderr(io::pipe()?.1)),
    }
    let child = command.spawn()?;
    // Its writing end of the pipe is the command's alone from now on.
    drop(command);
    let ended = ended(child, words)?;
    empty(disk)?;
    Ok(ended)
}

/// Checks what a command left that met a cause, and runs it again unless it has done its work.
fn completes(world: &World, case: &Case, ended: &Output, ran: bool) -> Result<()> {
    ensure!(!ran || runs(case)? || deletes(case), "the machine ran, and is off:\n{ended}");
    let is_complete = || (case.completed)(world).is_ok();
    if ended.code == case.ends && is_complete() {
        return Ok(());
    }
    (case.survived)(world).with_context(|| ended.to_string())?;
    // On a full disk nobody could write down that the last step was done.
    let is_interrupted = world.workspace.join(format!("output/work/{}.json", case.machine)).exists();
    if is_interrupted || !is_complete() {
        world.nixvm(case.command)?.fails(case.ends)?;
        (case.completed)(world)?;
    }
    Ok(())
}

fn runs(case: &Case) -> Result<bool> {
    Ok(host::running_domains()?.iter().any(|name| name == case.machine))
}

fn deletes(case: &Case) -> bool {
    ["destroy", "purge"].contains(&case.command[0])
}

/// Waits until a process is held up, or has ended.
fn held_up(child: &mut Child) -> Result<()> {
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
        // proc_pid_stat(5): the state follows the name, which may hold anything but ends with the last parenthesis.
        if stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')) {
            break;
        }
        if began.elapsed() > LIMIT {
            child.kill()?;
            bail!("it never came so far");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn ended(child: Child, command: &[&str]) -> Result<Output> {
    let began = Instant::now();
    let pid = Pid::from_child(&child);
    let ended = std::thread::spawn(move || child.wait_with_output());
    while !ended.is_finished() {
        if began.elapsed() > LIMIT {
            kill_process(pid, Signal::KILL)?;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = ended.join().ok().context("nobody waited for it")??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Output {
        command: command.join(" "),
        code: output.status.code().unwrap_or(137),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// Leaves no free block on a tmpfs, which takes any size that is not below what is used.
fn fill(disk: &Path) -> Result<()> {
    let used = rustix::fs::statvfs(disk)?;
    resize(disk, &format!("{}", (used.f_blocks - used.f_bfree) * used.f_frsize))
}

fn empty(disk: &Path) -> Result<()> {
    resize(disk, "50%")
}

fn resize(disk: &Path, size: &str) -> Result<()> {
    root("mount", &["-o", &format!("remount,size={size}"), &disk.display().to_string()]).map(drop)
}
