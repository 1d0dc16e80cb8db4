//! Every signal that asks nixvm to stop ends it in the same orderly way.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::sandbox::Sandbox;

/// A Nix that builds until a signal ends it, and then reports that.
const NIX: &str = r#"#!/bin/sh
case "$*" in
*--version*) echo "nix (Nix) 2.26.3" ;;
*add-path*) echo /nix/store/none ;;
*" build "*)
  sleep 60 &
  if [ "$STUBBORN" ]; then trap '' TERM; else trap 'kill $!; echo ended > "$NIX_SAYS"; exit 1' TERM; fi
  echo at work > "$NIX_SAYS"
  wait ;;
esac
"#;

fn begin(sandbox: &Sandbox, before: &[&str]) -> Child {
    let nix = sandbox.path("../bin/nix");
    sandbox.write("../bin/nix", NIX);
    std::fs::set_permissions(&nix, std::fs::Permissions::from_mode(0o755)).unwrap();
    let build = sandbox.command(&["build", "core"]);
    let mut command = Command::new("env");
    command.args(before).arg(build.get_program()).args(build.get_args());
    command.current_dir(sandbox.path("")).env_clear();
    command.envs(build.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let path = format!("{}:/usr/bin:/bin", nix.parent().unwrap().display());
    command.env("PATH", path).env("NIX_SAYS", sandbox.path("../says"));
    // A separate process group, as in a terminal: a signal sent only to nixvm must reach Nix too.
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_for(sandbox: &Sandbox, said: &str) {
    let until = Instant::now() + Duration::from_secs(30);
    while std::fs::read_to_string(sandbox.path("../says")).unwrap_or_default().trim() != said {
        assert!(Instant::now() < until, "Nix never said `{said}`");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn every_request_to_stop_ends_a_build_in_order() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129), (Signal::INT, 130)] {
        let sandbox = Sandbox::new();
        let child = begin(&sandbox, &[]);
        wait_for(&sandbox, "at work");
        send(&child, signal);
        wait_for(&sandbox, "ended");
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), ended.status.signal()), (Some(code), None), "{signal:?}: {said}");
        assert!(said.contains("interrupted"), "{said}");
    }
}

#[test]
fn the_same_request_a_second_time_waits_for_nobody() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let sandbox = Sandbox::new();
        let mut child = begin(&sandbox, &["STUBBORN=1"]);
        wait_for(&sandbox, "at work");
        // Two different signals count as one request, because a session that ends sends both.
        for first in [signal, Signal::HUP] {
            send(&child, first);
            std::thread::sleep(Duration::from_millis(300));
            assert!(child.try_wait().unwrap().is_none(), "{first:?} did not wait for an orderly end");
        }
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        kill_process_group(Pid::from_child(&child), Signal::KILL).unwrap();
    }
}

#[test]
fn a_command_behind_nohup_outlives_its_terminal() {
    let sandbox = Sandbox::new();
    let mut child = begin(&sandbox, &["nohup"]);
    wait_for(&sandbox, "at work");
    send(&child, Signal::HUP);
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "SIGHUP ended a command that was to ignore it");
    send(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
}
