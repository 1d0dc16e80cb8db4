//! The serial console, as a person at a terminal uses it.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::harness::Outcome;
use crate::host;
use crate::process::wait_for;
use crate::world::{A, ROOT_PASSWORD, World};

/// agetty and login take their time without KVM.
const ANSWER: Duration = Duration::from_secs(90);

pub fn the_serial_console_is_interactive(world: &mut World) -> Result<Outcome> {
    world.machine_a()?;
    let mut console = Console::open(world, A)?;
    console.prompt()?;
    // What the guest said before may show a prompt too; only a guest that hears us asks for this one's password.
    console.send("e2e-typed\r")?;
    console.expect("e2e-typed")?;
    console.expect("assword:")?;
    console.send("\r")?;
    let began = Instant::now();
    let (code, said) = console.leave()?;
    ensure!(code == 0, "^] left with exit code {code}:\n{said}");
    ensure!(began.elapsed() < Duration::from_secs(10), "^] took {:.1} s", began.elapsed().as_secs_f64());
    ensure!(host::state(A)? == "running", "leaving the console left {A} {}", host::state(A)?);
    // The next one gets it as well.
    let mut console = Console::open(world, A)?;
    console.prompt()?;
    console.leave()?;
    Ok(Outcome::Passed)
}

pub fn root_can_log_in_only_with_the_declared_password(world: &mut World) -> Result<Outcome> {
    world.machine_a()?;
    let mut console = Console::open(world, A)?;
    console.log_in("not it", "ncorrect")?;
    console.log_in(ROOT_PASSWORD, "#")?;
    console.send("echo uid=$(id -u) sum=$((40+2))\r")?;
    console.expect("uid=0 sum=42")?;
    console.send("exit\r")?;
    console.expect("login:")?;
    console.leave()?;

    // An empty hash locks root again, at the next start and without a build.
    host::write_private(&world.machine_dir(A).join("root_password_hash"), "")?;
    world.nixvm(&["reboot", A, "--wait"])?.ok()?;
    let mut console = Console::open(world, A)?;
    console.log_in(ROOT_PASSWORD, "ncorrect")?;
    console.log_in("", "ncorrect")?;
    console.leave()?;
    let shadow = world.guest_root(A, "getent shadow root | cut -d: -f2")?.ok()?;
    ensure!(shadow.text().starts_with('!'), "root is not locked: {}", shadow.text());
    Ok(Outcome::Passed)
}

/// `nixvm` on a pseudo-terminal that `script` makes.
pub struct Console {
    child: Child,
    stdin: ChildStdin,
    said: Arc<Mutex<Vec<u8>>>,
    /// How much of it was looked at.
    read: usize,
}

impl Console {
    /// Opens a machine's serial console.
    pub fn open(world: &World, machine: &str) -> Result<Self> {
        let mut console = Self::run(world, &["console", machine])?;
        console.expect("^]")?;
        Ok(console)
    }

    /// Runs any command of nixvm's that asks.
    pub fn run(world: &World, arguments: &[&str]) -> Result<Self> {
        Self::of(&world.command(arguments))
    }

    /// Runs any command.
    pub fn of(nixvm: &Command) -> Result<Self> {
        let words = std::iter::once(nixvm.get_program()).chain(nixvm.get_args());
        let line = words
            .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''")))
            .collect::<Vec<_>>()
            .join(" ");
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).envs(nixvm.get_envs().filter_map(|(k, v)| Some((k, v?))));
        let mut child = script
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("cannot run `script`, which makes a terminal")?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let mut stdout = child.stdout.take().context("no output")?;
        let into = Arc::clone(&said);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend(&buffer[..count]);
            }
        });
        let stdin = child.stdin.take().context("no input")?;
        Ok(Console { child, stdin, said, read: 0 })
    }

    /// Types.
    pub fn send(&mut self, keys: &str) -> Result<()> {
        self.stdin.write_all(keys.as_bytes())?;
        Ok(self.stdin.flush()?)
    }

    /// Returns all that was shown.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until `text` is shown, after what was waited for before.
    pub fn expect(&mut self, text: &str) -> Result<()> {
        self.expect_within(text, ANSWER)?
            .with_context(|| format!("no `{text}` on the console within {ANSWER:?}:\n{}", self.text()))
    }

    fn expect_within(&mut self, text: &str, limit: Duration) -> Result<Option<()>> {
        let found = wait_for(limit, || Ok(self.text().get(self.read..).and_then(|new| new.find(text))))?;
        Ok(found.map(|at| self.read += at + text.len()))
    }

    /// Sees to it that the last thing shown is a login prompt, pressing Enter where it is not.
    pub fn prompt(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            let text = self.settled()?;
            if text.trim_end().ends_with("login:") {
                self.read = text.len();
                return Ok(());
            }
            ensure!(began.elapsed() < ANSWER, "Enter gives no login prompt:\n{text}");
            self.send("\r")?;
        }
    }

    /// Returns what was shown once nothing more comes: login(1) drops what is typed ahead of its questions, and
    /// lets a wrong password wait for three seconds.
    fn settled(&self) -> Result<String> {
        loop {
            let text = self.text();
            if wait_for(Duration::from_secs(5), || Ok((self.text() != text).then_some(())))?.is_none() {
                return Ok(text);
            }
        }
    }

    /// Tries to log in as root and waits for the answer.
    pub fn log_in(&mut self, password: &str, answer: &str) -> Result<()> {
        self.prompt()?;
        self.send("root\r")?;
        self.expect("assword:")?;
        thread::sleep(Duration::from_secs(1));
        self.send(&format!("{password}\r"))?;
        self.expect(answer)
    }

    /// Waits until the command has ended, and returns its exit code and all that was shown.
    pub fn end(&mut self) -> Result<(i32, String)> {
        let status = wait_for(ANSWER, || Ok(self.child.try_wait()?))?;
        let status = status.with_context(|| format!("it does not end:\n{}", self.text()))?;
        Ok((status.code().unwrap_or(-1), self.text()))
    }

    /// Presses ^] and returns the exit code and all that was shown.
    pub fn leave(&mut self) -> Result<(i32, String)> {
        self.send("\x1d")?;
        let status = wait_for(Duration::from_secs(30), || Ok(self.child.try_wait()?))?;
        let status = status.with_context(|| format!("^] does not leave the console:\n{}", self.text()))?;
        Ok((status.code().unwrap_or(-1), self.text()))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
