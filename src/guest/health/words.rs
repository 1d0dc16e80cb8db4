//! What an unhealthy guest itself says: the last lines of the units that fail, asked for before it is switched off.

use std::time::Duration;

use crate::error::Said;
use crate::exec::quoted;
use crate::guest::login::ask;
use crate::guest::place;
use crate::host::Setup;
use crate::hypervisor::Owned;
use crate::model::{Machine, plain, shortened};

/// How long the guest may take to answer: without KVM, it may have to read a journal of 256 MiB.
const LIMIT: Duration = Duration::from_secs(45);

/// How many units are asked about; the message names all of them.
const UNITS: usize = 8;

/// Lines of each. A unit that is restarted repeatedly prints its own messages some lines before systemd gives up on it.
const LINES: usize = 20;

/// Characters of a line that are shown.
const WIDTH: usize = 300;

/// Bytes that the guest sends for one unit.
const BYTES: usize = 8192;

/// Begins each part of the answer. No line of a journal does: each begins with its time.
const MARK: &str = "--nixvm-- ";

/// The name of the part with the jobs that systemd has not finished.
const JOBS: &str = "systemctl list-jobs";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) units: Vec<String>,
    /// Whether systemd's unfinished jobs are wanted too.
    pub(super) jobs: bool,
}

impl Question {
    /// Returns the script for a shell in the guest; `None` where nothing is wanted.
    fn script(&self) -> Option<String> {
        if self.units.is_empty() && !self.jobs {
            return None;
        }
        // The agent has a short PATH.
        let mut script = "PATH=$PATH:/run/current-system/sw/bin:/usr/bin:/bin".to_owned();
        if self.jobs {
            script.push_str(&format!("; echo '{MARK}{JOBS}'; systemctl list-jobs --no-pager --no-legend"));
        }
        for unit in self.units.iter().take(UNITS).map(|unit| quoted(unit)) {
            script.push_str(&format!(
                "; echo '{MARK}'{unit}; journalctl --boot --all --quiet --no-pager --no-hostname --output=short \
                 --lines={LINES} --unit={unit} | tail -c {BYTES}"
            ));
        }
        Some(script)
    }
}

/// Returns the guest's answer, through its agent or else through ssh; nothing where neither answers.
pub(super) fn of(setup: &Setup, domain: &Owned, machine: &Machine, question: &Question) -> Vec<Said> {
    let Some(script) = question.script() else { return Vec::new() };
    let by_agent = || domain.agent_run(&["/bin/sh", "-c", &script], LIMIT).ok().map(|output| output.stdout);
    // Not every account may read all of the journal; admin of the profile core can become root without a password.
    let shell = format!("/bin/sh -c {}", quoted(&script));
    let as_root = format!("sudo -n {shell} || {shell}");
    let by_ssh = || ask(machine, setup, &place(setup, domain, machine.mac).known()?, &as_root);
    by_agent().or_else(by_ssh).map(|answer| parts(&answer)).unwrap_or_default()
}

fn parts(answer: &str) -> Vec<Said> {
    let mut parts: Vec<Said> = Vec::new();
    // A unit's last bytes need not end in a newline.
    for line in plain(answer).replace(MARK, &format!("\n{MARK}")).lines() {
        match (line.strip_prefix(MARK), parts.last_mut()) {
            (Some(source), _) => parts.push(Said { source: source.trim().to_owned(), lines: Vec::new() }),
            (None, Some(part)) => part.lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    parts.into_iter().map(bounded).filter(|part| !part.lines.is_empty()).collect()
}

/// Returns the last lines of a text that are not blank, without terminal sequences.
pub(super) fn said(source: impl Into<String>, text: &str) -> Said {
    bounded(Said { source: source.into(), lines: plain(text).lines().map(str::to_owned).collect() })
}

fn bounded(said: Said) -> Said {
    let written = said.lines.iter().filter(|line| !line.trim().is_empty());
    let lines: Vec<String> = written.map(|line| shortened(line, WIDTH).trim_end().to_owned()).collect();
    let from = lines.len().saturating_sub(LINES);
    Said { source: said.source, lines: lines[from..].to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(units: &[&str], jobs: bool) -> Question {
        Question { units: units.iter().map(ToString::to_string).collect(), jobs }
    }

    #[test]
    fn a_script_asks_for_each_unit_and_quotes_its_name() {
        assert_eq!(question(&[], false).script(), None);
        let script = question(&["a.service", "dev-disk\\x2dby.mount"], true).script().unwrap();
        assert!(script.contains("systemctl list-jobs") && script.contains("--unit=a.service | tail"));
        assert!(script.contains(r"--unit='dev-disk\x2dby.mount' |"), "{script}");
        let many: Vec<String> = (0..99).map(|n| format!("u{n}.service")).collect();
        let script = Question { units: many, jobs: false }.script().unwrap();
        assert_eq!(script.matches("journalctl").count(), UNITS);
    }

    #[test]
    fn a_shell_runs_it_and_its_parts_are_told_apart() {
        let script = question(&["a.service", "silent.service", "b@x.service"], false).script().unwrap();
        let fake = "journalctl() { for unit; do :; done; [ $unit != --unit=silent.service ] || return 0; \
                    printf 'said by %s\\n\\033[31mred\\007\\n\\nlast' $unit; }; ";
        let said = crate::exec::Command::new("sh").arg("-c").arg(format!("{fake}{script}")).output().unwrap();
        let parts = parts(&String::from_utf8(said).unwrap());
        let part = |unit: &str| Said {
            source: unit.into(),
            lines: vec![format!("said by --unit={unit}"), "red".into(), "last".into()],
        };
        assert_eq!(parts, [part("a.service"), part("b@x.service")]);
    }

    #[test]
    fn what_a_guest_says_is_bounded_and_does_nothing_to_a_terminal() {
        let long = format!("{}\n\x1b]0;title\x07\u{9b}2J{}", "x\n".repeat(1000), "é".repeat(9999));
        let said = said("check", &long);
        assert_eq!(said.lines.len(), LINES);
        assert!(said.lines.iter().all(|line| line.chars().count() <= WIDTH + 1));
        assert!(said.lines.iter().all(|line| !line.chars().any(char::is_control)), "{said:?}");
    }
}
