//! Several machines in one command: which are meant.

use std::fs;

use crate::sandbox::{Ended, Sandbox};

/// Returns a workspace with these machines, and a libvirt (a file for its test driver) at which all of them run.
fn running(machines: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::new();
    let node = sandbox.home().join("node.xml");
    let workspace = sandbox.path("").canonicalize().unwrap();
    let mut domains = String::new();
    for (number, (name, profile)) in machines.iter().enumerate() {
        let made = sandbox.run(&["create", name, profile, "--no-build", "--no-keys", "--quiet"]);
        assert_eq!(made.code, 0, "{made:?}");
        sandbox.write(&format!("machines/{name}/connection"), format!("test://{}\n", node.display()));
        domains += &format!(
            "<domain type='test'><name>{name}</name><uuid>0b5f0e4c-5a4b-4c7e-9f57-0d6f6f1f8a{number:02x}</uuid>\
             <metadata><nixvm:machine xmlns:nixvm='urn:nixvm:domain:1' name='{name}' workspace='{}' volumes='{name}' generation='1'>\
             <nixvm:generation number='1' profile='{profile}' digest='{}' base='b' made='1' health='untried' nixpkgs='n' kernel='6'/>\
             </nixvm:machine></metadata><memory>8192</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain>",
            workspace.display(),
            "d".repeat(64)
        );
    }
    fs::write(&node, format!("<node>{domains}</node>")).unwrap();
    sandbox
}

/// Runs the program at the libvirt that the machines' files name.
fn run(sandbox: &Sandbox, arguments: &[&str]) -> Ended {
    sandbox.ended(sandbox.command(arguments).env_remove("NIXVM_CONNECT"))
}

fn three() -> Sandbox {
    running(&[("db", "docker"), ("web-1", "core"), ("web-2", "core")])
}

/// Returns the machines in the JSON of a command on several.
fn machines(ended: &Ended) -> Vec<String> {
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    json.as_array().unwrap().iter().map(|one| one["machine"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn machines_are_named_by_globs_profiles_and_all() {
    let sandbox = three();
    for (words, expected) in [
        (&["web-*"][..], &["web-1", "web-2"][..]),
        (&["@docker"], &["db"]),
        (&["@core", "web-1"], &["web-1", "web-2"]),
        (&["db", "*2"], &["db", "web-2"]),
        (&["--all"], &["db", "web-1", "web-2"]),
    ] {
        let ended = run(&sandbox, &[&["force-stop", "--json"][..], words].concat());
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(machines(&ended), expected, "{words:?}");
    }
}

#[test]
fn what_stands_for_no_machine_is_refused_and_what_there_is_named() {
    let sandbox = three();
    for (words, hint) in [
        (&["wbe-*"][..], "hint: the machines are db, web-1, web-2\n"),
        (&["@dev"], "hint: the machines' profiles are core, docker\n"),
        (&["--all", "web-1"], "--help"),
        (&[], "--help"),
    ] {
        let ended = run(&sandbox, &[&["force-stop"][..], words].concat());
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
        assert!(ended.stderr.contains(hint), "{words:?}: {ended:?}");
    }
    let none = Sandbox::new().run(&["force-stop", "--all"]);
    assert!(none.code == 2 && none.stderr.contains("`nixvm create NAME` makes one"), "{none:?}");
}

#[test]
fn one_that_fails_stops_no_other_and_is_in_the_exit_code() {
    let sandbox = three();
    sandbox.write("machines/web-1/connection", "test:///no/such/file.xml\n");
    let json = run(&sandbox, &["force-stop", "--all", "--json"]);
    assert_eq!(
        (json.code, machines(&json)),
        (1, vec!["db".into(), "web-1".into(), "web-2".into()]),
        "{json:?}"
    );
    let list: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&list[0]["ended"], &list[2]["ended"]), (&"forced".into(), &"forced".into()), "{json:?}");
    let error = list[1]["error"].as_str().unwrap();
    assert!(error.starts_with("cannot connect to libvirt") && list[1]["exit_code"] == 1, "{json:?}");

    let text = run(&sandbox, &["force-stop", "--all"]);
    let rows: Vec<Vec<&str>> = text.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["MACHINE", "SECONDS", "RESULT"]);
    assert!(rows[1][0] == "db" && rows[1][2] == "off", "{text:?}");
    assert!(
        rows[2][0] == "web-1" && rows[2][2..].join(" ").starts_with("failed: cannot connect"),
        "{text:?}"
    );
    assert!(
        text.stderr.contains("\ndb: ✓ Switched db off\n")
            || text.stderr.starts_with("db: ✓ Switched db off\n")
    );
    assert!(text.stderr.contains("web-1: error: cannot connect") && text.stderr.contains("web-1: cause: "));
    assert!(text.stderr.ends_with("error: 1 of 3 machines failed; the others were done\n"), "{text:?}");
}

#[test]
fn a_declared_machine_without_a_domain_is_in_no_ones_way_unless_it_was_named() {
    let sandbox = three();
    let made = run(&sandbox, &["create", "new", "--no-build", "--no-keys", "--quiet"]);
    assert_eq!(made.code, 0, "{made:?}");
    let connection = fs::read_to_string(sandbox.path("machines/db/connection")).unwrap();
    sandbox.write("machines/new/connection", connection);
    let all = run(&sandbox, &["force-stop", "--all", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&all.stdout).unwrap();
    assert_eq!((all.code, &list[1]), (0, &serde_json::json!({ "machine": "new", "skipped": "no-domain" })));
    let named = run(&sandbox, &["force-stop", "new", "web-*"]);
    assert_eq!((named.code, named.stdout.as_str()), (1, ""), "{named:?}");
    assert!(named.stderr.contains("cannot be worked on; nothing was changed"), "{named:?}");
    // Its files can be set, and it has a status.
    let status = run(&sandbox, &["status", "new", "db"]);
    assert!(
        status.code == 0 && status.stdout.contains("machine:    new\nstate:      declared\n"),
        "{status:?}"
    );
    let set = run(&sandbox, &["set", "n*", "vcpus=3", "--json"]);
    assert_eq!((set.code, machines(&set)), (0, vec!["new".into()]), "{set:?}");
}

#[test]
fn one_value_is_set_for_several_and_a_slip_is_found_first() {
    let sandbox = Sandbox::new();
    for name in ["db", "web"] {
        assert_eq!(sandbox.run(&["create", name, "--no-build", "--no-keys", "--quiet"]).code, 0);
    }
    let read = |name: &str| fs::read_to_string(sandbox.path(&format!("machines/{name}/memory"))).unwrap();
    for (words, memory) in [
        (&["db", "web", "memory=3G"][..], "3G\n"),
        (&["--all", "memory=4G"], "4G\n"),
        (&["*", "memory=5G"], "5G\n"),
        (&["--all", "--memory", "6G"], "6G\n"),
    ] {
        let set = sandbox.run(&[&["set"][..], words].concat());
        assert_eq!((set.code, read("db"), read("web")), (0, memory.into(), memory.into()), "{set:?}");
        assert!(set.stdout.contains(&format!("-> {}, at the next start", memory.trim())), "{set:?}");
    }
    for (words, message) in [
        (&["db", "web", "memory"][..], "`memory` is not KEY=VALUE"),
        (&["db", "wbe", "memory=7G"], "cannot be worked on"),
        (&["memory=7G"], "no machine is named"),
        (&["--all", "db", "memory=7G"], "both `--all` and `db` are given"),
    ] {
        let set = sandbox.run(&[&["set"][..], words].concat());
        assert!(set.code > 0 && set.stderr.contains(message) && read("db") == "6G\n", "{words:?}: {set:?}");
    }
}

#[test]
fn a_deletion_of_several_names_each_and_needs_a_yes() {
    let sandbox = Sandbox::new();
    for name in ["db", "web-1", "web-2"] {
        assert_eq!(sandbox.run(&["create", name, "--no-build", "--no-keys", "--quiet"]).code, 0);
    }
    let asked = sandbox.run(&["purge", "web-*"]);
    assert_eq!(asked.code, 2, "{asked:?}");
    assert!(
        asked.stderr.contains("machines: web-1, web-2\n")
            && asked.stderr.contains("Delete these 2 machines: "),
        "{asked:?}"
    );
    assert!(sandbox.path("machines/web-1").exists());
    let none = sandbox.run(&["destroy", "--all", "--yes"]);
    assert!(none.code == 1 && none.stderr.contains("none of these machines has a domain"), "{none:?}");
    let purged = sandbox.run(&["purge", "web-*", "--yes", "--json"]);
    assert_eq!((purged.code, machines(&purged)), (0, vec!["web-1".into(), "web-2".into()]), "{purged:?}");
    assert_eq!(sandbox.run(&["list-machines"]).stdout, "db\n");
}

#[test]
fn what_was_named_once_is_shown_as_one_and_a_pattern_as_a_list() {
    let sandbox = three();
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_str(&run(&sandbox, &[arguments, &["--json"]].concat()).stdout).unwrap()
    };
    assert_eq!(json(&["status", "db"])["name"], "db");
    assert_eq!(json(&["status", "d*"])[0]["machine"], "db");
    assert_eq!(json(&["status", "--all"]).as_array().map(Vec::len), Some(3));
    // With `--all`, the only word is that of the snapshot.
    let asked = run(&sandbox, &["delete-snapshot", "--all", "old"]);
    assert!(asked.code == 1 && asked.stderr.contains("db has no snapshot `old`"), "{asked:?}");
    let both = run(&sandbox, &["delete-snapshot", "--all", "db", "old"]);
    assert!(both.code == 2 && both.stderr.contains("both `--all` and `db` are given"), "{both:?}");
    let without = run(&sandbox, &["delete-snapshot", "db"]);
    assert!(without.code == 2 && without.stderr.contains("SNAP"), "{without:?}");
}

/// No Nix is there, so every upgrade fails at its build, and changes nothing.
#[test]
fn the_first_upgrade_that_fails_keeps_the_others_from_being_touched() {
    let sandbox = three();
    // What all machines need is wrong, because there is no Nix here: that is told once.
    let all = run(&sandbox, &["upgrade", "--all", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&all.stdout).unwrap();
    assert!(
        all.code == 1 && told["error"].as_str().is_some_and(|error| error.contains("flake.nix")),
        "{all:?}"
    );
    for name in ["db", "web-1", "web-2"] {
        sandbox.write(&format!("machines/{name}/extra.nix"), "{ a = ; }\n");
    }
    for (more, failed, left) in [
        (&[][..], &["db"][..], &["web-1", "web-2"][..]),
        (&["--canary", "web-2"], &["web-2"], &["db", "web-1"]),
        (&["--keep-going"], &["db", "web-1", "web-2"], &[]),
        // Nothing is restarted: the first batch is as large as any.
        (&["--no-start", "--batch", "2", "--jobs", "1"], &["db"], &["web-1", "web-2"]),
    ] {
        let ended = run(&sandbox, &[&["upgrade", "--all", "--json"][..], more].concat());
        assert_eq!((ended.code, machines(&ended).len()), (1, 3), "{ended:?}");
        let list: Vec<serde_json::Value> = serde_json::from_str(&ended.stdout).unwrap();
        let names = |condition: &dyn Fn(&serde_json::Value) -> bool| -> Vec<String> {
            let some = list.iter().filter(|one| condition(one));
            some.map(|one| one["machine"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&|one| one["error"].is_string()), failed, "{more:?}: {ended:?}");
        assert_eq!(names(&|one| one["skipped"] == "not-begun"), left, "{more:?}: {ended:?}");
        assert!(list.iter().all(|one| one["running"] == 1 && one["next"] == 1), "{ended:?}");
        assert_eq!(ended.stderr.contains("`--keep-going` upgrades the other"), !left.is_empty(), "{ended:?}");
    }
    let table = run(&sandbox, &["upgrade", "--all"]);
    let rows: Vec<Vec<&str>> = table.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["MACHINE", "SECONDS", "GENERATION", "RESULT"], "{table:?}");
    assert_eq!(rows[2], ["web-1", "-", "1", "not", "begun"], "{table:?}");
    let other = run(&sandbox, &["upgrade", "web-*", "--canary", "db"]);
    assert!(other.code == 2 && other.stderr.contains("`db` is to be the first"), "{other:?}");
}
