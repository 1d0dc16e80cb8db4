//! `list --watch`, on a terminal that script(1) makes.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::sandbox::Sandbox;

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";

/// `nixvm list --watch` on a terminal of that many columns and lines.
struct Watched {
    script: Child,
    said: Arc<Mutex<String>>,
}

impl Watched {
    fn new(sandbox: &Sandbox, columns: u32, lines: u32) -> Self {
        let nixvm = sandbox.command(&["list", "--watch"]);
        let line = format!(
            "stty cols {columns} rows {lines}; exec '{}' list --watch",
            nixvm.get_program().to_string_lossy()
        );
        let mut script = std::process::Command::new("script");
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
        Watched { script, said }
    }

    /// Waits until what was said makes this true, and returns all of it.
    fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
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

    fn press(&mut self, key: &str) {
        self.script.stdin.as_mut().unwrap().write_all(key.as_bytes()).unwrap();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn a_watched_list_is_drawn_again_in_place_and_leaves_nothing_behind() {
    let sandbox = Sandbox::new().with_web();
    let mut watched = Watched::new(&sandbox, 80, 24);
    watched.until("the first list", |said| said.contains("web"));
    let mail = sandbox.run(&["create", "mail", "--no-build", "--no-keys", "--quiet"]);
    assert_eq!(mail.code, 0, "{mail:?}");
    let drawn = watched.until("the next list", |said| said.contains("mail"));
    assert!(drawn.matches(HOME).count() > 1 && drawn.matches(ENTER).count() == 1, "{drawn:?}");
    watched.press("\x03");
    let said = watched.until("the end", |said| said.contains(LEAVE));
    assert_eq!(watched.script.wait().unwrap().code(), Some(0));
    assert!(said.ends_with(LEAVE), "{said:?}");
}

#[test]
fn a_watched_list_fits_into_a_small_terminal() {
    let sandbox = Sandbox::new().with_web();
    for name in ["db", "mail"] {
        let made = sandbox.run(&["create", name, "--no-build", "--no-keys", "--quiet"]);
        assert_eq!(made.code, 0, "{made:?}");
    }
    let watched = Watched::new(&sandbox, 12, 3);
    let said = watched.until("two lists", |said| said.matches(HOME).count() > 2);
    let list = said.split(HOME).nth(1).unwrap();
    let lines: Vec<String> =
        list.split("\r\n").map(|line| console::strip_ansi_codes(line).into_owned()).collect();
    assert_eq!(lines, ["NAME  STAT…", "db    decl…", "… 2 more l…"], "{said:?}");
}

#[test]
fn nothing_is_watched_without_a_terminal() {
    let sandbox = Sandbox::new().with_web();
    for arguments in [&["list", "--watch"][..], &["list", "--watch", "--json"]] {
        let ended = sandbox.run(arguments);
        let said = ended.stdout.clone() + &ended.stderr;
        assert!(ended.code == 2 && said.contains("`--watch` shows nothing with"), "{ended:?}");
        assert!(!said.contains('\x1b'), "{ended:?}");
    }
}
