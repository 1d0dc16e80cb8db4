//! The agent in the guest (`qemu-ga`): commands for it, and still file systems.
//!
//! The agent may be missing, busy or the guest's own fake, so every request has
//! a limit and every answer is checked.

use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};
use serde::Deserialize;
use serde_json::json;

use super::{Owned, Seen};
use crate::error::{Explain, Failure, Result};
use crate::interrupt;
use crate::libvirt::{self, Say};

/// Seconds that an agent is given to answer at all.
const PATIENCE: i32 = 5;

/// How long a guest is given to write out what is dirty while its writers go on.
const SYNC_PATIENCE: Duration = Duration::from_secs(20);

/// Seconds that an agent is given to freeze or thaw: it writes out what is dirty first.
const FREEZE_PATIENCE: u16 = 30;

/// Bytes of an answer. libvirt passes on 4 MiB (`VIR_NET_MESSAGE_STRING_MAX`), but only where a daemon is in between.
const LONGEST_ANSWER: usize = 4 << 20;

/// How often a command in the guest is looked at.
const POLL: Duration = Duration::from_millis(200);

/// How often thawing is tried: a guest that stays frozen looks dead.
const THAWS: u32 = 3;

/// What the guest does by itself a minute after it was to be frozen, should nobody have thawed it by then: nixvm may have
/// been killed, and this host with it. No error where nothing is frozen.
///
/// The agent freezes what is mounted from disks and can be written, which is `/var` alone. Its own `PATH` is short.
const DEAD_MANS_SWITCH: &str =
    "sleep 60; PATH=$PATH:/run/current-system/sw/bin:/usr/sbin:/sbin fsfreeze --unfreeze /var";

/// How a command in the guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentOutput {
    /// Its exit code; 128 and the signal's number where it was killed, as in a shell.
    pub code: i32,
    /// What it printed; what is no UTF-8 is replaced.
    pub stdout: String,
    /// What it printed to standard error, likewise.
    pub stderr: String,
}

impl Owned {
    /// Returns whether the guest's agent answers, after some seconds at most.
    pub fn agent_answers(&self) -> bool {
        self.ask(&json!({ "execute": "guest-ping" })).is_ok()
    }

    /// Runs a command in the guest as root and returns how it ended.
    ///
    /// No shell takes part. A name without `/` is looked for on the agent's own `PATH`. At the limit and at an
    /// interruption the command is left running: the agent can end none.
    ///
    /// # Errors
    /// The agent does not answer, refuses, finds no such program, or the command did not end within `limit`.
    pub fn agent_run(&self, argv: &[&str], limit: Duration) -> Result<AgentOutput> {
        let say = || self.cannot("run a command in");
        let (path, arguments) =
            argv.split_first().ok_or_else(|| Failure::bug("no command to run in a guest"))?;
        let exec = json!({
            "execute": "guest-exec",
            "arguments": { "path": path, "arg": arguments, "capture-output": true },
        });
        let Return { value: Started { pid } } = parse(&self.ask(&exec).explain(say)?).explain(say)?;
        let status = json!({ "execute": "guest-exec-status", "arguments": { "pid": pid } });
        let ended = interrupt::poll(limit, POLL, || {
            let answer: Return<Status> = parse(&self.ask(&status)?)?;
            answer.value.ended()
        });
        ended.explain(say)?.ok_or_else(|| {
            let late = format!("`{path}` did not end within {} s", limit.as_secs());
            say().because(Failure::user(late)).into()
        })
    }

    /// Has the guest write out and freeze its file systems until the guard is dropped.
    ///
    /// The guest's writers stand still meanwhile: keep it short. Were nixvm killed, the guest would thaw itself after a
    /// minute.
    ///
    /// # Errors
    /// The agent does not answer or cannot freeze; nothing is frozen then.
    pub fn freeze(&self) -> Result<Frozen<'_>> {
        // First, so that a slow guest is not busy beginning it while its writers stand still already.
        let switch = json!({
            "execute": "guest-exec",
            "arguments": { "path": "/bin/sh", "arg": ["-c", DEAD_MANS_SWITCH] },
        });
        self.ask(&switch).explain(|| self.cannot("freeze the file systems of"))?;
        self.write_out();
        // Made before, so that it also undoes what an agent does after libvirt has stopped waiting for it.
        let mut frozen = Frozen { machine: self, since: Some(Instant::now()) };
        libvirt::freeze(&self.domain, FREEZE_PATIENCE).say(|| self.cannot("freeze the file systems of"))?;
        frozen.since = Some(Instant::now());
        Ok(frozen)
    }

    /// Has the guest write out what is dirty while its writers go on.
    ///
    /// A file system that freezes does so while they stand still. If this fails, they stand still for longer.
    pub(super) fn write_out(&self) {
        let _ = self.agent_run(&["/bin/sh", "-c", "sync"], SYNC_PATIENCE);
    }

    /// Returns whether the guest's file systems are frozen; `None` where its agent does not say.
    pub fn is_frozen(&self) -> Option<bool> {
        let answer = self.ask(&json!({ "execute": "guest-fsfreeze-status" })).ok()?;
        Some(parse::<Return<String>>(&answer).ok()?.value == "frozen")
    }

    /// Has the guest thaw its file systems, and returns whether one was frozen.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn thaw(&self) -> Result<bool> {
        let mut tried = 0;
        loop {
            tried += 1;
            match libvirt::thaw(&self.domain) {
                Err(_) if tried < THAWS => std::thread::sleep(POLL),
                done => return done.map(|count| count > 0).say(|| self.cannot("thaw the file systems of")),
            }
        }
    }
}

impl Seen {
    fn ask(&self, request: &serde_json::Value) -> Result<String> {
        self.ask_within(request, PATIENCE)
    }

    /// Asks the agent and gives it `patience` seconds; libvirt sees before that whether it answers at all, for five seconds
    /// at most.
    pub(super) fn ask_within(&self, request: &serde_json::Value, patience: i32) -> Result<String> {
        let answer = self
            .domain
            .qemu_agent_command(&request.to_string(), patience, 0)
            .say(|| Failure::user("the guest's agent does not do as asked"))?;
        bounded(answer)
    }
}

/// A guest whose file systems are frozen; thawed when dropped.
#[must_use = "the guest is thawed when this is dropped"]
pub struct Frozen<'a> {
    machine: &'a Owned,
    since: Option<Instant>,
}

impl Frozen<'_> {
    /// Thaws the guest and returns for how long it was frozen; `None` where it was not any more, so that nothing can be said
    /// of what was done meanwhile.
    ///
    /// # Errors
    /// The agent does not answer any more: the guest may still be frozen.
    pub fn thaw(mut self) -> Result<Option<Duration>> {
        let since = self.since.take();
        let was_frozen = self.machine.thaw()?;
        Ok(since.filter(|_| was_frozen).map(|since| since.elapsed()))
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if self.since.take().is_some() {
            // An error is on its way already, and says more.
            let _ = self.machine.thaw();
        }
    }
}

/// An answer of the agent's (docs/interop/qemu-ga-ref in QEMU).
#[derive(Deserialize)]
pub(super) struct Return<T> {
    #[serde(rename = "return")]
    pub(super) value: T,
}

#[derive(Deserialize)]
struct Started {
    pid: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Status {
    exited: bool,
    exitcode: Option<i32>,
    signal: Option<i32>,
    #[serde(default)]
    out_data: String,
    #[serde(default)]
    err_data: String,
}

impl Status {
    fn ended(&self) -> Result<Option<AgentOutput>> {
        if !self.exited {
            return Ok(None);
        }
        let code = self.exitcode.or(self.signal.map(|signal| 128 + signal));
        Ok(Some(AgentOutput {
            code: code.ok_or_else(nonsense)?,
            stdout: text(&self.out_data)?,
            stderr: text(&self.err_data)?,
        }))
    }
}

fn text(encoded: &str) -> Result<String> {
    let bytes = Base64::decode_vec(encoded).map_err(|_| nonsense())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn bounded(answer: String) -> Result<String> {
    if answer.len() > LONGEST_ANSWER {
        let why = format!("the guest's agent answers with more than {} MiB", LONGEST_ANSWER >> 20);
        return Err(Failure::user(why).into());
    }
    Ok(answer)
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(answer: &str) -> Result<T> {
    serde_json::from_str(answer).explain(nonsense)
}

fn nonsense() -> Failure {
    Failure::user("the guest's agent answers what nixvm does not understand")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(answer: &str) -> Result<Option<AgentOutput>> {
        parse::<Return<Status>>(answer)?.value.ended()
    }

    #[test]
    fn a_command_runs_until_it_has_exited() {
        assert_eq!(status(r#"{"return": {"exited": false}}"#).unwrap(), None);
        let ended = status(
            r#"{"return": {"exited": true, "exitcode": 3, "out-data": "aGkK", "err-data": "/w==", "out-truncated": false}}"#,
        );
        let output = AgentOutput { code: 3, stdout: "hi\n".into(), stderr: "\u{fffd}".into() };
        assert_eq!(ended.unwrap(), Some(output));
        let killed = status(r#"{"return": {"exited": true, "signal": 9}}"#).unwrap().unwrap();
        assert_eq!((killed.code, killed.stdout.as_str()), (137, ""));
    }

    #[test]
    fn an_answer_without_end_is_refused() {
        assert!(bounded("x".repeat(LONGEST_ANSWER)).is_ok());
        assert!(bounded("x".repeat(LONGEST_ANSWER + 1)).is_err());
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_refused() {
        for answer in [
            "",
            "{}",
            r#"{"return": {}}"#,
            r#"{"return": {"exited": true}}"#,
            r#"{"return": {"exited": true, "exitcode": 0, "out-data": "%"}}"#,
        ] {
            assert!(status(answer).is_err(), "{answer}");
        }
    }
}
