//! A run of the program at a terminal that script(1) makes.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::sandbox::Sandbox;

pub struct Pty {
    script: Child,
    said: Arc<Mutex<String>>,
}

impl Pty {
    /// Runs nixvm with these plain words on a terminal of that many columns and lines.
    pub fn new(sandbox: &Sandbox, (columns, lines): (u32, u32), arguments: &[&str]) -> Self {
        let nixvm = sandbox.command(arguments);
        let line = format!(
            "stty cols {columns} rows {lines}; exec '{}' {}",
            nixvm.get_program().to_string_lossy(),
            arguments.join(" ")
        );
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env_clear().current_dir(sandbox.path(""));
        script.envs(nixvm.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
        let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (mut from, into) = (script.stdout.take().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                into.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Pty { script, said }
    }

    /// Waits until what was said makes this true, and returns all of it.
    pub fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let said = self.said.lock().unwrap().clone();
            if is(&said) {
                return said;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{what}: {said:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn press(&mut self, key: &str) {
        self.script.stdin.as_mut().unwrap().write_all(key.as_bytes()).unwrap();
    }
}

impl Pty {
    /// Returns the exit code, once it has ended.
    pub fn code(&mut self) -> Option<i32> {
        self.script.wait().unwrap().code()
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
