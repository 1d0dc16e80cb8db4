//! Verbs that need no guest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::sandbox::{KEY, Sandbox};

#[test]
fn create_writes_a_private_folder_and_keeps_what_is_there() {
    let sandbox = Sandbox::new();
    sandbox.write("machines/web/tcp_ports", "8080\n");
    let odd = format!("{KEY} it's \"me\" \\ ${{HOME}} & <b> {{{{ x }}}} #");
    fs::write(sandbox.home().join("key.pub"), format!("# mine\n{odd}\n")).unwrap();

    let made = sandbox.run(&[
        "create",
        "web",
        "docker",
        "4G",
        "3",
        "50",
        "user",
        "--no-build",
        "--keys",
        "../home/key.pub",
        "--udp-port",
        "53",
        "--autostart",
    ]);
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(made.stdout, "next: nixvm create web builds and defines it\n");
    let read = |name: &str| fs::read_to_string(sandbox.path("machines/web").join(name)).unwrap();
    for (name, contents) in [
        ("profile", "docker\n"),
        ("memory", "4G\n"),
        ("vcpus", "3\n"),
        ("var_size", "50G\n"),
        ("network", "user\n"),
        ("tcp_ports", "8080\n"),
        ("udp_ports", "53\n"),
        ("hostname", "web\n"),
        ("autostart", "yes\n"),
        ("root_password_hash", ""),
    ] {
        assert_eq!(read(name), contents, "{name}");
    }
    assert_eq!(read("admin_authorized_keys"), format!("{odd}\n"));
    for entry in walkdir::WalkDir::new(sandbox.path("machines/web")).into_iter().map(Result::unwrap) {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(
            mode,
            if entry.file_type().is_dir() { 0o700 } else { 0o600 },
            "{}",
            entry.path().display()
        );
    }

    let before = sandbox.snapshot();
    assert_eq!(sandbox.run(&["create", "web", "--no-build"]).code, 0);
    assert!(sandbox.snapshot() == before, "a second create changed a file");
}

#[test]
fn profiles_are_listed_with_what_they_say_of_themselves() {
    let sandbox = Sandbox::new();
    let listed = sandbox.run(&["list-profiles"]);
    assert_eq!(
        listed.stdout,
        "PROFILE  DESCRIPTION\nbase     A system.\ncore     Base with ssh.\ndocker   Core with Docker.\n"
    );
    let listed = sandbox.run(&["--json", "list-profiles"]);
    let json: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(json[1], serde_json::json!({ "name": "core", "description": "Base with ssh." }));
}

#[test]
fn machines_are_listed_whether_they_have_a_domain_or_not() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.run(&["list"]).stdout, "no machines yet; `nixvm create NAME` makes one\n");
    let sandbox = sandbox.with_web();
    assert_eq!(sandbox.run(&["list-machines"]).stdout, "web\n");
    assert_eq!(
        sandbox.run(&["list"]).stdout,
        "NAME  STATE     ADDRESS  PROFILE  GENERATION  POOL   CONNECTION\n\
         web   declared  -        core     -           nixvm  test:///default\n"
    );
}

#[test]
fn purge_deletes_the_files_of_a_machine_that_was_never_built() {
    let sandbox = Sandbox::new().with_web();
    let purged = sandbox.run(&["purge", "web", "--yes"]);
    assert_eq!(purged.code, 0, "{purged:?}");
    assert!(!sandbox.path("machines/web").exists());
    assert_eq!(sandbox.run(&["purge", "web", "--yes"]).code, 1);
}

#[test]
fn completions_know_the_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Sandbox::new().run(&["completions", shell]).stdout;
        assert!(
            ["list-profiles", "force-stop", "no-build"].iter().all(|word| script.contains(word)),
            "{shell}"
        );
    }
}

/// Returns the verbs that the program's help lists.
fn verbs() -> Vec<String> {
    let help = Sandbox::new().run(&["--help"]).stdout;
    let verbs =
        help.lines().skip_while(|l| !l.starts_with("Commands:")).skip(1).take_while(|l| !l.is_empty());
    // A deeper line continues the one before.
    let verbs = verbs.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    verbs.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn the_flake_has_an_app_for_every_verb() {
    let nix = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("nix/workspace.nix")).unwrap();
    let list = nix.split_once("verbs = [").unwrap().1.split_once(']').unwrap().0;
    let apps: Vec<&str> = list.split_whitespace().map(|word| word.trim_matches('"')).collect();
    let mut verbs = verbs();
    verbs.sort();
    assert_eq!(apps, verbs);
}

#[test]
fn every_verb_has_help() {
    let verbs = verbs();
    assert!(verbs.len() >= 18, "{verbs:?}");
    for verb in &verbs {
        let ended = Sandbox::new().run(&[verb, "--help"]);
        assert!(ended.code == 0 && ended.stdout.contains("Usage: nixvm"), "{verb}: {ended:?}");
    }
}
