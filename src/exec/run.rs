//! Running a command.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Signal, kill_process_group};

use super::Command;
use super::pipes::{POLL, each_line, end_of, ended_on_request, is_orderly_end, pid, tail};
use crate::error::{Explain, Failure, Result};
use crate::interrupt;

/// Lines of standard error that a failure quotes.
const TAIL: usize = 12;

/// Bytes at the end of a command's output in which a failure looks for those lines.
const TAIL_BYTES: u64 = 64 << 10;

impl Command {
    /// Runs the command without input and returns its standard output; fails on any status but 0.
    pub fn output(&self) -> Result<Vec<u8>> {
        self.output_watched(|line| (!line.trim().is_empty()).then(|| line.to_owned()))
    }

    /// As [`Command::output`]; ends the command, and everything it started, after `limit`.
    pub fn output_within(&self, limit: Duration) -> Result<Vec<u8>> {
        // Files, not pipes: a grandchild that outlives the command would hold those open.
        let file = || tempfile::tempfile().explain(|| Failure::user("cannot make a temporary file"));
        let mut stderr = file()?;
        let mut stdout = if self.both_streams {
            // Both streams share one file position, so that lines stay in their order.
            stderr.try_clone().explain(|| self.not_started())?
        } else {
            file()?
        };
        let mut child = self
            .process()
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().explain(|| self.not_started())?)
            .stderr(stderr.try_clone().explain(|| self.not_started())?)
            .spawn()
            .explain(|| self.not_started())?;
        let printed = |file: &File| file.metadata().map_or(0, |file| file.len());
        let too_much = || printed(&stdout).max(printed(&stderr)) > self.most;
        let ended = interrupt::poll(limit, POLL, || match child.try_wait() {
            Ok(None) if too_much() => Err(self.too_much().into()),
            waited => waited.explain(|| self.not_started()),
        });
        if !matches!(ended, Ok(Some(_))) {
            let _ = pid(child.id()).map(|group| kill_process_group(group, Signal::KILL));
            let _ = child.wait();
        }
        let ended = ended?;
        if too_much() {
            return Err(self.too_much().into());
        }
        let unread = || Failure::user(format!("cannot read what `{self}` printed"));
        let said = tail(&end_of(&mut stderr, TAIL_BYTES).explain(unread)?, TAIL);
        let Some(status) = ended else {
            let late = Failure::user(format!("`{self}` did not end within {} s", limit.as_secs()));
            return Err(quoting(late, &said).into());
        };
        self.check(status, &said)?;
        if self.both_streams { Ok(Vec::new()) } else { end_of(&mut stdout, self.most).explain(unread) }
    }

    /// Runs the command without input, passes each line of its standard error to `line`, and returns its standard output.
    ///
    /// `line` returns the text to keep for an error message; `None` drops the line.
    pub fn output_watched(&self, mut line: impl FnMut(&str) -> Option<String>) -> Result<Vec<u8>> {
        let orderly_end = is_orderly_end();
        let mut child = self.piped()?;
        // Both pipes must be read at once, or a child that fills one of them blocks for ever.
        let most = self.most;
        let stdout = child.stdout.take().map(|pipe| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                // This closes the pipe, which ends a child that keeps printing.
                pipe.take(most + 1).read_to_end(&mut bytes).map(|_| bytes)
            })
        });
        let mut kept: Vec<String> = Vec::new();
        let stderr = child.stderr.take();
        let read = ended_on_request(child.id(), orderly_end, || {
            if let Some(pipe) = stderr {
                let _ = each_line(pipe, |text| {
                    kept.extend(line(text));
                    if kept.len() > TAIL {
                        kept.remove(0);
                    }
                    true
                });
            }
            stdout.map(std::thread::JoinHandle::join)
        });
        let bytes = match read {
            Some(Ok(read)) => read.explain(|| Failure::user(format!("cannot read what `{self}` printed")))?,
            Some(Err(_)) => return Err(Failure::bug("the thread that reads a child's output died").into()),
            None => Vec::new(),
        };
        let status = child.wait().explain(|| self.not_started())?;
        if bytes.len() as u64 > most {
            return Err(self.too_much().into());
        }
        self.check(status, &kept)?;
        Ok(bytes)
    }

    /// Runs the command without input, passes each line of its standard output to `out` and of its standard error to `said`,
    /// and returns its status. Ends the command once `out` returns false or an error.
    pub fn lines(
        &self,
        mut out: impl FnMut(&str) -> Result<bool>,
        mut said: impl FnMut(&str) + Send,
    ) -> Result<ExitStatus> {
        let orderly_end = is_orderly_end();
        let mut child = self.piped()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut wanted = Ok(true);
        ended_on_request(child.id(), orderly_end, || {
            std::thread::scope(|scope| {
                if let Some(pipe) = stderr {
                    scope.spawn(move || {
                        each_line(pipe, |line| {
                            said(line);
                            true
                        })
                    });
                }
                if let Some(pipe) = stdout {
                    let _ = each_line(pipe, |line| {
                        wanted = out(line);
                        matches!(wanted, Ok(true))
                    });
                }
                // It may never print again, and so never notice that its output is closed.
                if !matches!(wanted, Ok(true)) {
                    let _ = child.kill();
                }
            });
        });
        let ended = child.wait().explain(|| self.not_started())?;
        wanted.map(|_| ended)
    }

    /// Replaces this process by the command; returns only if that fails.
    pub fn replace(&self) -> anyhow::Error {
        self.not_started().because(self.process().exec()).into()
    }

    fn piped(&self) -> Result<Child> {
        let mut process = self.process();
        process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        process.spawn().explain(|| self.not_started())
    }

    fn check(&self, status: ExitStatus, said: &[String]) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        // If the user asked to stop, that says more than the exit status.
        interrupt::check()?;
        Err(quoting(Failure::user(format!("`{self}` failed ({status})")), said).into())
    }
}

fn quoting(failure: Failure, said: &[String]) -> Failure {
    if said.is_empty() { failure } else { failure.because(anyhow::Error::msg(said.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    #[test]
    fn a_failure_names_the_command_its_end_and_its_last_words() {
        let error = Command::new("sh").arg("-c").arg("echo said >&2; exit 7").output().unwrap_err();
        let report = Report::of(&error);
        assert_eq!(report.error, "`sh -c 'echo said >&2; exit 7'` failed (exit status: 7)");
        assert_eq!(report.causes, ["said"]);
    }

    #[test]
    fn a_command_with_a_limit_ends_with_all_that_it_started() {
        let seconds = Duration::from_secs;
        let quick = Command::new("sh").args(["-c", "sleep 9 & echo out"]).output_within(seconds(5)).unwrap();
        assert_eq!(quick, b"out\n", "its child does not keep it");
        let began = std::time::Instant::now();
        let slow = Command::new("sh").args(["-c", "echo said >&2; sleep 60"]).output_within(seconds(1));
        let report = Report::of(&slow.unwrap_err());
        assert!(report.error.ends_with("did not end within 1 s"), "{report:?}");
        assert_eq!(report.causes, ["said"]);
        assert!(began.elapsed() < seconds(30));
    }

    #[test]
    fn a_failure_quotes_both_streams_where_it_is_told_to() {
        let script = "echo one; echo two >&2; echo three; exit 1";
        let command = Command::new("sh").args(["-c", script]);
        let causes =
            |command: Command| Report::of(&command.output_within(Duration::from_secs(5)).unwrap_err()).causes;
        assert_eq!(causes(command.clone()), ["two"]);
        assert_eq!(causes(command.both_streams()), ["one\ntwo\nthree"]);
    }

    #[test]
    fn a_missing_program_gives_its_hint() {
        let error = Command::new("no-such-program-of-ours").missing("install it").output().unwrap_err();
        assert_eq!(Report::of(&error).hints, ["install it"]);
    }

    #[test]
    fn who_prints_without_end_is_ended_and_fills_no_memory() {
        let endless = || Command::new("sh").args(["-c", "echo said >&2; exec yes"]).at_most(1 << 20);
        let begun = std::time::Instant::now();
        for ended in [endless().output(), endless().output_within(Duration::from_secs(60))] {
            let report = Report::of(&ended.unwrap_err());
            assert!(report.error.ends_with("printed more than 1 MiB"), "{report:?}");
        }
        // A short one that prints too much before it is looked at, and one whose error is too much.
        for script in ["head -c 2000000 /dev/zero", "head -c 2000000 /dev/zero >&2"] {
            let ended = Command::new("sh").args(["-c", script]).at_most(1 << 20);
            let report = Report::of(&ended.output_within(Duration::from_secs(60)).unwrap_err());
            assert!(report.error.ends_with("printed more than 1 MiB"), "{report:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn lines_come_one_by_one_until_no_more_is_wanted() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let begun = std::time::Instant::now();
        let more = |line: &str| {
            out.push(line.to_owned());
            Ok(line != "two")
        };
        let direct = Command::new("sh").args(["-c", "echo one; echo err >&2; echo two; exec sleep 60"]);
        assert!(!direct.lines(more, |line| err.push(line.to_owned())).unwrap().success());
        assert_eq!((out.concat(), err.concat()), ("onetwo".to_owned(), "err".to_owned()));
        assert!(begun.elapsed() < Duration::from_secs(30));
        let mut pieces = Vec::new();
        let long = Command::new("sh").args(["-c", "head -c 3000000 /dev/zero; exit 3"]);
        let ended = long.lines(
            |line| {
                pieces.push(line.len());
                Ok(true)
            },
            |_| {},
        );
        assert_eq!(ended.unwrap().code(), Some(3));
        assert_eq!((pieces.len(), pieces.iter().sum::<usize>()), (3, 3_000_000));
    }

    #[test]
    fn both_pipes_are_drained() {
        let script = "head -c 300000 /dev/zero | tr '\\0' 'x' >&2; echo >&2; head -c 300000 /dev/zero";
        let mut seen = 0;
        let out = Command::new("sh").args(["-c", script]).output_watched(|line| {
            seen += line.len();
            None
        });
        assert_eq!((out.unwrap().len(), seen), (300_000, 300_000));
    }
}
