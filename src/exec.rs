//! The one door for child processes.
//!
//! An argument vector is built as a value, so that tests compare it whole; how
//! it is run stands here once. A failure names the command as a person could
//! type it, how it ended, and the end of what it said.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::error::{Explain, Failure, Result};
use crate::interrupt;

/// Lines of standard error that a failure quotes.
const TAIL: usize = 12;

/// Bytes at the end of what a command said that a failure looks for those lines in.
const TAIL_BYTES: u64 = 64 << 10;

/// Most bytes that are taken from a command, unless it is told another limit. Nix lists the largest closures in a tenth of it.
const MOST: u64 = 64 << 20;

/// Bytes of a line; a longer one comes in pieces.
const LINE: u64 = 1 << 20;

/// How often a command with a limit is looked at.
const POLL: Duration = Duration::from_millis(50);

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    directory: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    without: Vec<OsString>,
    missing: Option<String>,
    both_streams: bool,
    most: u64,
}

impl Command {
    /// Returns a command without arguments; `program` is looked up as [`search_path`] says.
    pub fn new(program: impl Into<OsString>) -> Self {
        Command {
            program: program.into(),
            arguments: Vec::new(),
            directory: None,
            environment: Vec::new(),
            without: Vec::new(),
            missing: None,
            both_streams: false,
            most: MOST,
        }
    }

    /// Returns the command with one more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Returns the command with more arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: Into<OsString>>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Returns the command, to be run in `directory`.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Returns the command with one environment variable set beside the inherited ones.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Returns the command without one of the inherited environment variables.
    #[must_use]
    pub fn without_env(mut self, name: impl Into<OsString>) -> Self {
        self.without.push(name.into());
        self
    }

    /// Returns the command with the hint to give when its program is not installed.
    #[must_use]
    pub fn missing(mut self, hint: impl Into<String>) -> Self {
        self.missing = Some(hint.into());
        self
    }

    /// Returns the command, of which a failure under a limit quotes what it printed to its standard output, too; nothing is
    /// returned of it then. For programs of the user's, who may use either.
    #[must_use]
    pub fn both_streams(mut self) -> Self {
        self.both_streams = true;
        self
    }

    /// Returns the command, which is ended where it prints more than that many bytes: what asks a guest must not be at its mercy.
    #[must_use]
    pub fn at_most(mut self, bytes: u64) -> Self {
        self.most = bytes;
        self
    }

    /// Returns the whole argument vector, program first.
    pub fn argv(&self) -> Vec<&OsStr> {
        std::iter::once(self.program.as_os_str())
            .chain(self.arguments.iter().map(OsString::as_os_str))
            .collect()
    }

    /// Runs the command without input and returns its standard output.
    ///
    /// # Errors
    /// The program is not there, it ends with a status other than 0, or it prints more than its limit.
    pub fn output(&self) -> Result<Vec<u8>> {
        self.output_watched(|line| (!line.trim().is_empty()).then(|| line.to_owned()))
    }

    /// Runs the command without input and returns its standard output; ends it, and what it started, after `limit`.
    ///
    /// # Errors
    /// As [`Command::output`]; the limit has passed; an interruption.
    pub fn output_within(&self, limit: Duration) -> Result<Vec<u8>> {
        // Files, not pipes: a grandchild that outlives the command would hold those open.
        let file = || tempfile::tempfile().explain(|| Failure::user("cannot make a temporary file"));
        let mut stderr = file()?;
        let mut stdout = match self.both_streams {
            // One file with one place to write at, so that lines stay in their order.
            true => stderr.try_clone().explain(|| self.not_started())?,
            false => file()?,
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
            let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            let _ = group.map(|group| kill_process_group(group, Signal::KILL));
            let _ = child.wait();
        }
        let ended = ended?;
        if too_much() {
            return Err(self.too_much().into());
        }
        let unread = || Failure::user(format!("cannot read what `{self}` printed"));
        let said = tail(&end_of(&mut stderr, TAIL_BYTES).explain(unread)?, TAIL);
        match ended {
            Some(status) => self.check(status, &said)?,
            None => {
                let late = Failure::user(format!("`{self}` did not end within {} s", limit.as_secs()));
                return Err(match said.as_slice() {
                    [] => late.into(),
                    lines => late.because(anyhow::Error::msg(lines.join("\n"))).into(),
                });
            }
        }
        if self.both_streams { Ok(Vec::new()) } else { end_of(&mut stdout, self.most).explain(unread) }
    }

    /// Runs the command without input, gives each line of its standard error to `line`, and returns its standard output.
    ///
    /// `line` returns what is kept for the message should the command fail; `None` drops the line.
    ///
    /// # Errors
    /// As [`Command::output`].
    pub fn output_watched(&self, mut line: impl FnMut(&str) -> Option<String>) -> Result<Vec<u8>> {
        let mut child = self.piped()?;
        // Both pipes must be drained at once, or a child that fills one waits for ever.
        let most = self.most;
        let stdout = child.stdout.take().map(|pipe| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                // The pipe is closed then, at which a child that goes on printing ends.
                pipe.take(most + 1).read_to_end(&mut bytes).map(|_| bytes)
            })
        });
        let mut kept: Vec<String> = Vec::new();
        let stderr = child.stderr.take();
        let read = ended_on_request(child.id(), || {
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

    /// Runs the command without input, gives each line of its standard output to `out` and of its standard error to `said`,
    /// and returns how it ended. Once `out` returns false or an error, the command is ended.
    ///
    /// # Errors
    /// The program is not there, or that of `out`.
    pub fn lines(
        &self,
        mut out: impl FnMut(&str) -> Result<bool>,
        mut said: impl FnMut(&str) + Send,
    ) -> Result<ExitStatus> {
        let mut child = self.piped()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut wanted = Ok(true);
        ended_on_request(child.id(), || {
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
                // It may never print again, and then never see that nobody reads it.
                if !matches!(wanted, Ok(true)) {
                    let _ = child.kill();
                }
            });
        });
        let ended = child.wait().explain(|| self.not_started())?;
        wanted.map(|_| ended)
    }

    /// Replaces this process by the command; returns only the reason why it could not.
    pub fn replace(&self) -> anyhow::Error {
        self.not_started().because(self.process().exec()).into()
    }

    fn piped(&self) -> Result<Child> {
        let mut process = self.process();
        process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        process.spawn().explain(|| self.not_started())
    }

    fn too_much(&self) -> Failure {
        Failure::user(format!("`{self}` printed more than {} MiB", self.most >> 20))
    }

    fn process(&self) -> std::process::Command {
        let mut process = std::process::Command::new(&self.program);
        process.env("PATH", search_path(&std::env::var_os("PATH").unwrap_or_default()));
        process.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        for name in &self.without {
            process.env_remove(name);
        }
        if let Some(directory) = &self.directory {
            process.current_dir(directory);
        }
        process
    }

    fn not_started(&self) -> Failure {
        let failure = Failure::user(format!("cannot run `{}`", self.program.to_string_lossy()));
        match &self.missing {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    fn check(&self, status: ExitStatus, said: &[String]) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        // How it ended says less than that it was asked to.
        interrupt::check()?;
        let failure = Failure::user(format!("`{self}` failed ({status})"));
        Err(match said {
            [] => failure.into(),
            lines => failure.because(anyhow::Error::msg(lines.join("\n"))).into(),
        })
    }
}

/// Writes the command as it could be typed into a shell.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.argv().into_iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(&quoted(&word.to_string_lossy()))?;
        }
        Ok(())
    }
}

/// Returns `word` as one word of a POSIX shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%#".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('#') {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Returns where programs are looked up: on `path` (the value of `PATH`), then where Debian keeps `mkfs.ext4` out of an ordinary user's sight.
pub fn search_path(path: &OsStr) -> OsString {
    let mut folders = path.to_owned();
    for folder in ["/usr/local/sbin", "/usr/sbin", "/sbin"] {
        if !folders.is_empty() {
            folders.push(":");
        }
        folders.push(folder);
    }
    folders
}

/// Returns where `program` is on `path` (the value of `PATH`), if it can be executed.
pub fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    let executable = |p: &Path| p.is_file() && rustix::fs::access(p, rustix::fs::Access::EXEC_OK).is_ok();
    std::env::split_paths(path).map(|dir| dir.join(program)).find(|p| executable(p))
}

/// Does `work` with a child, which is asked to end once somebody asks this process to: only ^C at a terminal reaches both.
/// What is begun after that belongs to an orderly end, and is left to itself.
fn ended_on_request<T>(child: u32, work: impl FnOnce() -> T) -> T {
    let (child, done) = (i32::try_from(child).ok().and_then(Pid::from_raw), AtomicBool::new(false));
    let Some(child) = child.filter(|_| !interrupt::is_requested()) else { return work() };
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if interrupt::is_requested() {
                    let _ = kill_process(child, Signal::TERM);
                    return;
                }
                std::thread::park_timeout(POLL);
            }
        });
        let value = work();
        done.store(true, Ordering::Relaxed);
        watching.thread().unpark();
        value
    })
}

/// Gives each line to `take` until that returns false; what is no UTF-8 is replaced.
fn each_line(pipe: impl Read, mut take: impl FnMut(&str) -> bool) -> io::Result<()> {
    let mut reader = BufReader::new(pipe);
    let mut bytes = Vec::new();
    while (&mut reader).take(LINE).read_until(b'\n', &mut bytes)? > 0 {
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        if !take(&String::from_utf8_lossy(line)) {
            break;
        }
        bytes.clear();
    }
    Ok(())
}

/// Returns the last bytes of a file, `most` of them.
fn end_of(file: &mut File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(file.metadata()?.len().saturating_sub(most)))?;
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn tail(bytes: &[u8], lines: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let all: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    #[test]
    fn display_can_be_typed_into_a_shell() {
        let command = Command::new("printf").arg("%s\\n").arg("it's $HOME").arg("").arg("a-b=c");
        assert_eq!(command.to_string(), r"printf '%s\n' 'it'\''s $HOME' '' a-b=c");
        let echoed = Command::new("sh").arg("-c").arg(command.to_string()).output().unwrap();
        assert_eq!(String::from_utf8(echoed).unwrap(), "it's $HOME\n\na-b=c\n");
    }

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
    fn an_ordinary_users_path_gets_the_system_folders_behind_it() {
        assert_eq!(search_path(OsStr::new("/usr/bin:/bin")), "/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin");
        assert_eq!(search_path(OsStr::new("")), "/usr/local/sbin:/usr/sbin:/sbin");
        let seen = Command::new("sh").args(["-c", "printf %s \"$PATH\""]).output().unwrap();
        assert!(String::from_utf8(seen).unwrap().ends_with(":/usr/sbin:/sbin"));
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
