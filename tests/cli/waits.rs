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

fn started(sandbox: &Sandbox, names: &[&str], code: i32, words: &[&str]) -> Ended {
    let ended = run(sandbox, &[&["start"], names, &["--wait", "--timeout", "1"]].concat());
    assert_eq!(ended.code, code, "{names:?}: {ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{names:?}: no `{word}` in {ended:?}");
    }
    ended
}

#[test]
fn a_machine_starts_after_those_that_its_file_names() {
    let (sandbox, uri) = two();
    sandbox.write("machines/db/after", "web\n");
    let late = started(
        &sandbox,
        &["db"],
        1,
        &["error: db was not started: it starts after web", "hint: remove web"],
    );
    assert!(late.stderr.contains("cause: web did not answer ssh within 1 s: "), "{late:?}");
    sandbox.write("machines/web/health-check", "#!/bin/sh\n");
    let path = sandbox.path("machines/web/health-check");
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    started(&sandbox, &["db"], 1, &["cause: web did not become healthy within 1 s: "]);

    // One that is off is not started in passing.
    let mail = sandbox.run(&["create", "app", "--no-build", "--no-keys", "--quiet"]);
    assert_eq!(mail.code, 0, "{mail:?}");
    sandbox.write("machines/app/connection", format!("{uri}\n"));
    sandbox.write("machines/db/after", "app\n");
    // That much was tried: the test driver has no disks.
    let words = ["note: db is to start after app, which is off; it starts all the same", "Starting db"];
    started(&sandbox, &["db"], 1, &words);
    let shown = run(&sandbox, &["status", "db"]).stdout;
    assert!(shown.contains("\nafter:      app\n"), "{shown}");
}

#[test]
fn one_that_was_to_be_started_first_and_is_not_up_keeps_the_other_from_starting() {
    let (sandbox, _) = two();
    sandbox.write("machines/db/after", "web\n");
    // A machine that runs is not started, and so waits for nobody.
    sandbox.write("machines/web/after", "app\n");
    assert_eq!(sandbox.run(&["create", "app", "--no-build", "--no-keys", "--quiet"]).code, 0);
    let runs = started(&sandbox, &["web"], 1, &["note: web runs already"]);
    assert!(!runs.stderr.contains("app"), "{runs:?}");

    let xml = fs::read_to_string(sandbox.path("../two.xml")).unwrap();
    sandbox.write("../two.xml", xml.replace("<test:runstate>1<", "<test:runstate>5<"));
    sandbox.write("machines/web/after", "");
    // The test driver has no disks, so `web` fails; `db` comes first by name, but not here.
    let words =
        ["web: error: ", "db: error: db was not started: it starts after web", "db: cause: web is off"];
    let both = started(&sandbox, &["db", "web"], 1, &words);
    assert!(!both.stderr.contains("Starting db"), "{both:?}");
}

#[test]
fn what_cannot_be_an_order_is_refused_by_file_and_line() {
    let (sandbox, _) = two();
    sandbox.write("machines/web/after", "# data\ndb\n");
    sandbox.write("machines/db/after", "web\n");
    for names in [&["web"][..], &["db"], &["web", "db"]] {
        let before = sandbox.snapshot();
        let words = [
            "error: machines wait for each other",
            "db starts after web (machines/db/after, line 1)",
            "web starts after db (machines/web/after, line 2)",
            "hint: remove one of these lines",
        ];
        started(&sandbox, names, 1, &words);
        assert!(sandbox.snapshot() == before);
    }
    sandbox.write("machines/db/after", "wbe\n");
    let words =
        ["error: machines/db/after, line 1, is wrong", "there is no machine `wbe`", "did you mean `web`?"];
    started(&sandbox, &["web"], 1, &words);
    // Renaming and deleting say who still names the machine.
    sandbox.write("machines/db/after", "app\n");
    assert_eq!(sandbox.run(&["create", "app", "--no-build", "--no-keys", "--quiet"]).code, 0);
    let renamed = sandbox.run(&["rename", "app", "shop"]);
    assert!(renamed.stderr.contains("write shop into machines/db/after"), "{renamed:?}");
    sandbox.write("machines/db/after", "shop\n");
    let purged = sandbox.run(&["purge", "shop", "--yes"]);
    assert!(purged.stderr.contains("remove it from machines/db/after"), "{purged:?}");
}
