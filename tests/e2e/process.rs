//! Runs programs: every one with a time limit, and with all it said in the error when it fails.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Set by ^C and SIGTERM: the program at work is left to its own handling of the signal, and no other is begun.
static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// What a program did.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its argument vector, for messages.
    pub command: String,
    /// Its exit code, 128 + signal where one killed it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub seconds: f64,
}

impl Output {
    /// Returns it if the program succeeded.
    pub fn ok(self) -> Result<Self> {
        self.fails(0)
    }

    /// Returns it if the program ended with `code`.
    pub fn fails(self, code: i32) -> Result<Self> {
        ensure!(self.code == code, "exit code {} instead of {code} from\n{self}", self.code);
        Ok(self)
    }

    /// Returns it if it was refused as nixvm refuses things: that exit code, an `error:` line with every one of `words`, a `hint:`.
    pub fn refused(self, code: i32, words: &[&str]) -> Result<Self> {
        let refused = self.fails(code)?;
        for word in ["error:", "hint:"].iter().chain(words) {
            ensure!(refused.stderr.contains(word), "no `{word}` in what was said by\n{refused}");
        }
        Ok(refused)
    }

    /// Returns standard output without white space around it.
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "    $ {} (exit code {}, {:.1} s)", self.command, self.code, self.seconds)?;
        for (name, text) in [("out", &self.stdout), ("err", &self.stderr)] {
            let lines: Vec<&str> = text.lines().collect();
            let skipped = lines.len().saturating_sub(60);
            if skipped > 0 {
                writeln!(f, "    {name}| … {skipped} lines")?;
            }
            for line in &lines[skipped..] {
                writeln!(f, "    {name}| {line}")?;
            }
        }
        Ok(())
    }
}

/// Runs a program to its end, `input` on its standard input.
pub fn run(command: &mut Command, input: &[u8], limit: Duration) -> Result<Output> {
    stop_if_interrupted()?;
    let said = format!("{command:?}");
    let began = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {said}"))?;
    let input = (child.stdin.take(), input.to_vec());
    // A program may end without reading all of it; its exit code tells.
    thread::spawn(move || input.0.map(|mut stdin| stdin.write_all(&input.1)));
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);

    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("not done after {} s: {said}\n{}", limit.as_secs(), said_so_far(stdout, stderr));
        }
        thread::sleep(Duration::from_millis(5));
    };
    let seconds = began.elapsed().as_secs_f64();
    let text =
        |reader: Option<thread::JoinHandle<String>>| reader.and_then(|r| r.join().ok()).unwrap_or_default();
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    let output = Output { command: said, code, stdout: text(stdout), stderr: text(stderr), seconds };
    stop_if_interrupted()?;
    Ok(output)
}

/// What a program that was killed had said. A grandchild may hold its pipes open: give up on those.
fn said_so_far(
    stdout: Option<thread::JoinHandle<String>>,
    stderr: Option<thread::JoinHandle<String>>,
) -> String {
    thread::sleep(Duration::from_millis(100));
    [stdout, stderr]
        .into_iter()
        .flatten()
        .filter(thread::JoinHandle::is_finished)
        .filter_map(|reader| reader.join().ok())
        .collect()
}

fn collect(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs a program of the host and returns what it did if it succeeded.
pub fn host<S: AsRef<OsStr>>(argv: &[S]) -> Result<Output> {
    host_any(argv)?.ok()
}

/// Runs a program of the host and returns what it did.
pub fn host_any<S: AsRef<OsStr>>(argv: &[S]) -> Result<Output> {
    let (program, arguments) = argv.split_first().context("no program was named")?;
    run(Command::new(program).args(arguments), b"", Duration::from_secs(300))
}

/// Returns a command that root runs: the tests look at volumes, make a user and try a full disk.
pub fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "--", program]);
    sudo
}

/// Runs a program as root and returns what it did if it succeeded.
pub fn root<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<Output> {
    run(as_root(program).args(arguments), b"", Duration::from_secs(300))?.ok()
}

/// Waits until `probe` returns something, asking again and again; `None` when `limit` has passed.
pub fn wait_for<T>(limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let began = Instant::now();
    loop {
        stop_if_interrupted()?;
        if let Some(found) = probe()? {
            return Ok(Some(found));
        }
        if began.elapsed() > limit {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Makes ^C and SIGTERM end the run in order, with everything cleaned up.
pub fn listen_for_signals() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&INTERRUPTED))?;
    }
    Ok(())
}

pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

thread_local! {
    static CLEANS_UP: Cell<bool> = const { Cell::new(false) };
}

/// Does what has to be done at the end of a world, for which programs have to run after ^C too.
pub fn clean_up(work: impl FnOnce()) {
    CLEANS_UP.set(true);
    work();
    CLEANS_UP.set(false);
}

fn stop_if_interrupted() -> Result<()> {
    ensure!(CLEANS_UP.get() || !interrupted(), "interrupted");
    Ok(())
}
