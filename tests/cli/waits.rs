//! `wait`, as far as it needs no guest.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sandbox::{Ended, Sandbox};

/// Returns a workspace whose machine `web` runs and whose machine `db` is off, and the libvirt of both.
fn two() -> (Sandbox, String) {
    let sandbox = Sandbox::new().with_web();
    assert_eq!(sandbox.run(&["create", "db", "--no-build", "--no-keys", "--quiet"]).code, 0);
    let workspace = sandbox.path("").canonicalize().unwrap().display().to_string();
    let domain = |name: &str, state: u32| {
        let uuid = fs::read_to_string(sandbox.path(&format!("machines/{name}/uuid"))).unwrap();
        format!(
            "<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'><name>{name}</name><uuid>{}</uuid>\
             <memory>8192</memory><metadata><n:machine xmlns:n='urn:nixvm:domain:1' name='{name}' workspace='{workspace}' \
             volumes='{name}' generation='1'><n:generation number='1' profile='core' digest='d' base='b' made='1' \
             health='untried' nixpkgs='n' kernel='k'/></n:machine></metadata><test:runstate>{state}</test:runstate>\
             <os><type>hvm</type></os></domain>",
            uuid.trim()
        )
    };
    sandbox.write("../two.xml", format!("<node>{}{}</node>", domain("web", 1), domain("db", 5)));
    let uri = format!("test://{}", sandbox.path("../two.xml").canonicalize().unwrap().display());
    for name in ["web", "db"] {
        sandbox.write(&format!("machines/{name}/connection"), format!("{uri}\n"));
    }
    (sandbox, uri)
}

fn command(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let mut command = sandbox.command(arguments);
    command.env_remove("NIXVM_CONNECT");
    command
}

fn run(sandbox: &Sandbox, arguments: &[&str]) -> Ended {
    sandbox.ended(&mut command(sandbox, arguments))
}

#[test]
fn a_wait_ends_with_0_when_all_are_there_and_with_4_when_its_time_is_over() {
    let (sandbox, _) = two();
    let off = run(&sandbox, &["wait", "db", "--for", "off"]);
    assert_eq!((off.code, off.stdout.as_str()), (0, ""), "{off:?}");
    assert!(off.stderr.contains("✓ db is off (0 s)"), "{off:?}");
    for (arguments, error, cause) in [
        (&["web", "--for", "off"][..], "web did not go off within 1 s", "web: it is running"),
        (&["db"], "db did not answer ssh within 1 s", "db: it is off"),
        (&["web"], "web did not answer ssh within 1 s", "web: "),
        (
            &["web", "--for", "healthy"],
            "web did not become healthy within 1 s",
            "web: neither its agent nor ssh answers",
        ),
        (&["web", "db", "--for", "off"], "web did not go off within 1 s", "web: it is running"),
        (&["web", "db"], "2 of 2 machines did not answer ssh within 1 s", "db: it is off\n       web: "),
    ] {
        let began = Instant::now();
        let late = run(&sandbox, &[&["wait"], arguments, &["--timeout", "1"]].concat());
        assert_eq!((late.code, late.stdout.as_str()), (4, ""), "{arguments:?}: {late:?}");
        assert!(late.stderr.contains(&format!("error: {error}\ncause: {cause}")), "{arguments:?}: {late:?}");
        assert!(late.stderr.contains("\nhint: "), "{late:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "they have one time together");
    }
    // No time at all is one look.
    assert_eq!(run(&sandbox, &["wait", "db", "--for", "off", "--timeout", "0"]).code, 0);
}

#[test]
fn a_program_hears_of_each_machine() {
    let (sandbox, _) = two();
    let both = run(&sandbox, &["wait", "web", "db", "--for", "off", "--timeout", "0", "--json"]);
    assert_eq!(both.code, 4, "{both:?}");
    let json: Value = serde_json::from_str(&both.stdout).unwrap();
    let of = |index: usize| {
        let machine = &json[index];
        (
            machine["machine"].as_str(),
            machine["for"].as_str(),
            machine["reached"].as_bool(),
            machine["why"].as_str(),
        )
    };
    assert_eq!(of(0), (Some("db"), Some("off"), Some(true), None));
    assert_eq!(of(1), (Some("web"), Some("off"), Some(false), Some("it is running")));
}

#[test]
fn a_wait_for_nobody_is_refused_at_once() {
    let (sandbox, _) = two();
    for (arguments, code, word) in [
        (&["wait", "wbe"][..], 1, "did you mean `web`?"),
        (&["wait", "wbe", "web"], 1, "1 of these 2 machines"),
        (&["wait"], 2, "NAME"),
        (&["wait", "web", "--for", "lunch"], 2, "healthy"),
        (&["wait", "web", "--timeout", "soon"], 2, "--timeout"),
    ] {
        let ended = run(&sandbox, arguments);
        assert!(ended.code == code && ended.stderr.contains(word), "{arguments:?}: {ended:?}");
    }
}
