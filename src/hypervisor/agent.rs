//! The QEMU guest agent (`qemu-ga`): runs commands in the guest and freezes its file systems.
//!
//! The agent may be missing, busy or a fake of the guest's, so every request has
//! a time limit and every answer is checked.

use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};
use serde::Deserialize;
use serde_json::json;

use super::{Owned, Seen};
use crate::error::{Explain, Failure, Result};
use crate::interrupt;
use crate::libvirt::{self, Say};

/// Seconds within which an agent must answer.
const PATIENCE: i32 = 5;

/// How long a guest may take to write out dirty data before it is frozen.
const SYNC_PATIENCE: Duration = Duration::from_secs(20);

/// Seconds that an agent may take to freeze or thaw: it writes out dirty data first.
const FREEZE_PATIENCE: u16 = 30;

/// The most bytes of an answer. libvirt has the same limit (`VIR_NET_MESSAGE_STRING_MAX`), but only where a daemon is in between.
const LONGEST_ANSWER: usize = 4 << 20;

const POLL: Duration = Duration::from_millis(200);

/// How often thawing is tried: a guest that stays frozen looks dead.
const THAWS: u32 = 3;

/// Thaws the guest from inside after a minute, in case nixvm was killed meanwhile, or this host. It does no harm if nothing
/// is frozen.
///
/// The agent freezes writable file systems on disks, which is `/var` alone. The agent's own `PATH` is short.
const DEAD_MANS_SWITCH: &str =
    "sleep 60; PATH=$PATH:/run/current-system/sw/bin:/usr/sbin:/sbin fsfreeze --unfreeze /var";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentOutput {
    /// The exit code; 128 plus the signal's number if it was killed, as in a shell.
    pub code: i32,
    /// Invalid UTF-8 is replaced.
    pub stdout: String,
    pub stderr: String,
}

impl Owned {
    /// Returns whether the guest's agent answers within some seconds.
    pub fn agent_answers(&self) -> bool {
        self.ask(&json!({ "execute": "guest-ping" })).is_ok()
    }

    /// Runs a command in the guest as root, without a shell, and returns its result.
    ///
    /// A name without `/` is looked for on the agent's own `PATH`. After `limit`, and after an interruption, this fails and
    /// the command keeps running: the agent cannot end it.
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

    /// Has the guest write out dirty data and freeze its file systems until the guard is dropped.
    ///
    /// Programs in the guest that write are blocked meanwhile: keep it short. If nixvm is killed, the guest thaws itself
    /// after a minute. After an error nothing is frozen.
    pub fn freeze(&self) -> Result<Frozen<'_>> {
        // First, so that a slow guest does not start it while its file systems are already frozen.
        let switch = json!({
            "execute": "guest-exec",
            "arguments": { "path": "/bin/sh", "arg": ["-c", DEAD_MANS_SWITCH] },
        });
        self.ask(&switch).explain(|| self.cannot("freeze the file systems of"))?;
        self.write_out();
        // Made before, so that dropping it also undoes a freeze that an agent carries out after libvirt stopped waiting.
        let mut frozen = Frozen { machine: self, since: Some(Instant::now()) };
        libvirt::freeze(&self.domain, FREEZE_PATIENCE).say(|| self.cannot("freeze the file systems of"))?;
        frozen.since = Some(Instant::now());
        Ok(frozen)
    }

    /// Has the guest write out dirty data now, so that less is left for the freeze, which blocks the guest's programs.
    ///
    /// If this fails, the freeze takes longer.
    pub(super) fn write_out(&self) {
        let _ = self.agent_run(&["/bin/sh", "-c", "sync"], SYNC_PATIENCE);
    }

    /// Returns whether the guest's file systems are frozen; `None` if its agent does not say.
    pub fn is_frozen(&self) -> Option<bool> {
        let answer = self.ask(&json!({ "execute": "guest-fsfreeze-status" })).ok()?;
        Some(parse::<Return<String>>(&answer).ok()?.value == "frozen")
    }

    /// Has the guest thaw its file systems, and returns whether one was frozen.
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

    /// Asks the agent and waits `patience` seconds for the answer, after libvirt has waited up to five seconds for any sign of it.
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
    /// Thaws the guest and returns for how long it was frozen; `None` if it was no longer frozen, so that work done meanwhile
    /// may not be consistent.
    ///
    /// # Errors
    /// The agent no longer answers: the guest may still be frozen.
    pub fn thaw(mut self) -> Result<Option<Duration>> {
        let since = self.since.take();
        let was_frozen = self.machine.thaw()?;
        Ok(since.filter(|_| was_frozen).map(|since| since.elapsed()))
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if self.since.take().is_some() {
            // The caller already returns an error that says more.
            let _ = self.machine.thaw();
        }
    }
}

/// An answer of the agent (docs/interop/qemu-ga-ref in QEMU).
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
