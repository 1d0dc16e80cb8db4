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
