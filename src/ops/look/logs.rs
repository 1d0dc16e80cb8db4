//! `logs`: a guest's journal, or the text that it printed on its serial port.

use std::io::Write;
use std::time::Duration;

use crate::config;
use crate::error::{Explain, Failure, Result};
use crate::exec::Command;
use crate::guest::login::login;
use crate::guest::serial::end_of;
use crate::guest::{Place, answering};
use crate::host::{Setup, Watch, open_pool, ownership};
use crate::hypervisor::Owned;
use crate::interrupt;
use crate::model::MachineName;
use crate::model::volume::Role;
use crate::storage::Pool;

/// How often the serial log is checked for more.
const POLL: Duration = Duration::from_millis(500);

/// How long a guest's agent may take to read the journal; without KVM it takes seconds.
const JOURNAL_LIMIT: Duration = Duration::from_secs(60);

/// Rotated parts of a serial log that virtlogd keeps (`max_backups` of virtlogd.conf).
const ROTATED: u32 = 3;

/// Most bytes that are read of each part of a serial log. virtlogd keeps 2 MiB of each; without virtlogd a log has no limit.
const MOST: u64 = 16 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRequest {
    /// Only this unit's log, from the journal.
    pub unit: Option<String>,
    pub lines: u32,
    pub follow: bool,
    /// Whether to show the serial log even if the guest answers.
    pub serial: bool,
}

/// Where a log is.
#[derive(Debug)]
pub enum Log {
    /// In the guest: the ssh command that prints it.
    Ssh(Command),
    /// In the guest, read through its agent.
    Journal(String),
    /// In the serial log: [`serial_log`] prints it.
    Serial,
}

/// Finds the log: the journal of a guest that answers, else its serial log. Fails where only the journal would do, for one
/// unit's log, and the guest does not answer.
pub fn logs(setup: &Setup, name: &MachineName, asked: &LogRequest, watch: &dyn Watch) -> Result<Log> {
    let host = setup.hypervisor()?;
    let seen = host.see(name)?;
    if let Some(other) = ownership::other_workspace(&setup.workspace, seen.metadata(), seen.observe()?.id) {
        watch.note(&format!("{name} is a machine of the workspace `{other}`"));
        if asked.serial || asked.unit.is_none() {
            return Ok(Log::Serial);
        }
    }
    // Only this workspace's guests are asked for their journal.
    let domain = host.own(name)?;
    if asked.serial {
        return Ok(Log::Serial);
    }
    let state = domain.state()?;
    let up = state.can_answer();
    let machine = config::load(&setup.workspace, name)?;
    if up && let Place::At(at) = answering(setup, &domain, machine.mac) {
        let command: Vec<String> =
            ["sudo".into(), "-n".into()].into_iter().chain(journalctl(asked)).collect();
        return login(setup, &machine, &at, "admin", &command).map(Log::Ssh);
    }
    let agent = up && domain.agent_answers();
    if agent && !asked.follow {
        return journal(&domain, asked).map(Log::Journal);
    }
    let why = match (up, agent) {
        (false, _) if state.is_active() => "is paused",
        (false, _) => "is off",
        (true, false) => "does not answer",
        (true, true) => "does not answer ssh, and its agent cannot follow a log",
    };
    let Some(unit) = &asked.unit else {
        watch.note(&format!("{name} {why}; this is its serial log"));
        return Ok(Log::Serial);
    };
    let hint = if agent {
        "leave out `--follow`: the agent can show the log as it is now".to_owned()
    } else {
        format!(
            "wait for it with `nixvm start {name} --wait`, or see its serial log: `nixvm logs {name} --serial`"
        )
    };
    Err(Failure::user(format!("{name} {why}, and the log of `{unit}` is in its journal")).hint(hint).into())
}

fn journalctl(asked: &LogRequest) -> Vec<String> {
    let mut argv = vec!["journalctl".to_owned(), "--no-pager".to_owned(), format!("--lines={}", asked.lines)];
    // Joined with `=`, a name that begins with a hyphen is not taken for an option.
    argv.extend(asked.unit.as_ref().map(|unit| format!("--unit={unit}")));
    if asked.follow {
        argv.push("--follow".into());
    }
    argv
}

fn journal(domain: &Owned, asked: &LogRequest) -> Result<String> {
    let argv = journalctl(asked);
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let output = domain.agent_run(&argv, JOURNAL_LIMIT)?;
    if output.code == 0 {
        return Ok(output.stdout);
    }
    Err(Failure::user(format!("the guest of {} cannot show its journal", domain.name()))
        .because(anyhow::Error::msg(output.stderr.trim().to_owned()))
        .into())
}

/// Writes the last lines of a machine's serial log to `to`, and with `follow` everything after them until ^C. The guest's
/// control characters are not removed.
pub fn serial_log(setup: &Setup, name: &MachineName, asked: &LogRequest, to: &mut dyn Write) -> Result<()> {
    let host = setup.hypervisor()?;
    let stem = host.see(name)?.metadata().stem.clone();
    let pool = open_pool(setup, &host)?;
    let volume = Role::SerialLog(None).of(&stem);
    if !pool.has(&volume)? {
        return Err(Failure::user(format!("{name} has no serial log yet"))
            .hint(format!("it begins at the first start: `nixvm start {name}`"))
            .into());
    }
    let now = end_of(&pool, &volume, 0, MOST)?;
    let (mut text, seen) = (now.bytes, now.at);
    for old in 0..ROTATED {
        let rotated = Role::SerialLog(Some(old)).of(&stem);
        let lines = text.iter().filter(|byte| **byte == b'\n').count();
        if lines >= asked.lines as usize || length(&pool, &rotated)?.is_none() {
            break;
        }
        text.splice(0..0, end_of(&pool, &rotated, 0, MOST)?.bytes);
    }
    write(to, last_lines(&text, asked.lines as usize))?;
    if asked.follow {
        follow(&pool, &volume, seen, to)?;
    }
    Ok(())
}

fn follow(pool: &Pool, volume: &str, mut seen: u64, to: &mut dyn Write) -> Result<()> {
    loop {
        std::thread::sleep(POLL);
        interrupt::check()?;
        let now = length(pool, volume)?.unwrap_or_default();
        if now < seen {
            // The log was rotated.
            seen = 0;
        }
        if now > seen {
            let more = end_of(pool, volume, seen, MOST)?;
            seen = more.at;
            write(to, &more.bytes)?;
        }
    }
}

fn write(to: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes).and_then(|()| to.flush()).explain(|| Failure::user("cannot write the log"))
}

fn length(pool: &Pool, volume: &str) -> Result<Option<u64>> {
    Ok(pool.usage(volume)?.map(|usage| usage.capacity))
}

/// Returns the last lines of a text; a last one without a line feed counts.
fn last_lines(text: &[u8], lines: usize) -> &[u8] {
    let whole = text.strip_suffix(b"\n").unwrap_or(text);
    let mut starts = whole.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    if lines == 0 { &[] } else { &text[starts.nth(lines - 1).unwrap_or(0)..] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_whole_ones() {
        for (text, lines, last) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n", 5, "a\nb\n"),
            ("a\n\n", 1, "\n"),
            ("a\nb\n", 0, ""),
            ("", 3, ""),
        ] {
            assert_eq!(last_lines(text.as_bytes(), lines), last.as_bytes(), "{text:?} {lines}");
        }
    }

    #[test]
    fn a_unit_is_never_taken_for_an_option() {
        let asked = LogRequest { unit: Some("-rf $(x)".into()), lines: 20, follow: true, serial: false };
        assert_eq!(
            journalctl(&asked),
            ["journalctl", "--no-pager", "--lines=20", "--unit=-rf $(x)", "--follow"]
        );
    }
}
