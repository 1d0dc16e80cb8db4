//! Workspaces in folders of any name, and the files of them that Nix gets. The flakes here need no nixpkgs, so Nix answers at once.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::sandbox::{Ended, Sandbox};

/// A flake with one profile, whose image is a copy of the folder that Nix got.
const FLAKE: &str = r"{
  inputs.machines = { url = 'path:./nix/no-machines'; flake = false; };
  inputs.dep = { url = 'DEP'; flake = false; };
  outputs = { machines, dep, ... }: { packages.SYSTEM.profile-core = ./.; };
}
";

/// Returns a workspace in a folder of this name, with an input `dep` beside it that has a file `version`.
fn workspace(sandbox: &Sandbox, name: &str) -> PathBuf {
    let beside = sandbox.path("..");
    let (root, dep) = (beside.join(name), beside.join("dep"));
    fs::create_dir_all(&dep).unwrap();
    fs::write(dep.join("version"), "1").unwrap();
    let system = format!("{}-linux", std::env::consts::ARCH);
    let flake = FLAKE.replace('\'', "\"").replace("SYSTEM", &system);
    let dep = dep.canonicalize().unwrap();
    for (file, text) in [
        ("flake.nix", flake.replace("DEP", &format!("path:{}", dep.display()))),
        ("base.qcow2", "an image".to_owned()),
        // The keys of the real file that nixvm reads for a profile.
        ("image.json", r#"{ "format": 2, "notCarriedOut": [] }"#.to_owned()),
        ("lib.nix", "{ }".to_owned()),
        ("modules/default.nix", "{ }".to_owned()),
        ("profiles/core.nix", "# Core.\n{ }".to_owned()),
        ("profiles/files/motd", "hello".to_owned()),
        ("nix/no-machines/README.md", String::new()),
        ("machines/web/ssh_host_ed25519_key", "the key".to_owned()),
    ] {
        fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        fs::write(root.join(file), text).unwrap();
    }
    root
}

fn run(sandbox: &Sandbox, root: &Path, arguments: &[&str]) -> Ended {
    let path = std::env::var_os("PATH").unwrap();
    let root = Path::new("..").join(root.file_name().unwrap());
    sandbox.run_with_path(&[&["-C", root.to_str().unwrap()], arguments].concat(), Path::new(&path))
}

/// Builds the profile and returns the folder in Nix's store.
fn build(sandbox: &Sandbox, root: &Path) -> PathBuf {
    let ended = run(sandbox, root, &["build", "core"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    fs::canonicalize(root.join("output/build/profile-core")).unwrap()
}

fn refused(sandbox: &Sandbox, root: &Path, words: &[&str]) {
    let ended = run(sandbox, root, &["build", "core"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    for word in words.iter().chain(&["hint: "]) {
        assert!(ended.stderr.contains(word), "no `{word}` in {ended:?}");
    }
}

#[test]
fn a_workspace_builds_whatever_its_folder_is_called() {
    let sandbox = Sandbox::new();
    for name in
        ["a b", "é", "a#b", "a?b=c", "100%41", r"a\b", "it's", "a\"b", "a&b+c=d;e", "a^b[c]", "$x~", "-dash"]
    {
        let root = workspace(&sandbox, name);
        let built = build(&sandbox, &root);
        assert_eq!(fs::read_to_string(built.join("profiles/files/motd")).unwrap(), "hello", "{name}");
    }
    let long = ["long"; 50].join("-");
    build(&sandbox, &workspace(&sandbox, &long));
    symlink("a b", sandbox.path("../link")).unwrap();
    build(&sandbox, &sandbox.path("../link"));
}

#[test]
fn a_path_that_cannot_be_recorded_is_refused() {
    let sandbox = Sandbox::new();
    for (name, why) in [(&b"line\nbreak"[..], "a control character"), (b"\xff", "not UTF-8")] {
        let root = sandbox.path("..").join(OsStr::from_bytes(name));
        fs::create_dir_all(root.join("profiles")).unwrap();
        fs::write(root.join("flake.nix"), "{ }").unwrap();
        let ended =
            Command::new(env!("CARGO_BIN_EXE_nixvm")).arg("-C").arg(&root).arg("list-profiles").output();
        let ended = ended.unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.code() == Some(1) && said.contains(why) && said.contains("hint: "), "{said}");
    }
}

#[test]
fn nix_sees_what_the_workspace_is_made_of_and_no_secret() {
    let sandbox = Sandbox::new();
    let root = workspace(&sandbox, "plain");
    let write = |name: &str, text: &str| {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), text).unwrap();
    };
    write("profiles/tool.sh", "#!/bin/sh\n");
    fs::set_permissions(root.join("profiles/tool.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    for secret in ["target/x", "secrets/api", ".env", "profiles/tls.key"] {
        write(secret, "private");
    }
    write("profiles/data", "-----BEGIN PRIVATE KEY-----\n");
    symlink("../lib.nix", root.join("profiles/link.nix")).unwrap();
    let ended = run(&sandbox, &root, &["build", "core"]);
    assert!(
        ended.stderr.contains("looks like a secret: profiles/data, profiles/tls.key, secrets/api"),
        "{ended:?}"
    );
    let built = fs::canonicalize(root.join("output/build/profile-core")).unwrap();
    assert_eq!(fs::read_to_string(built.join("profiles/link.nix")).unwrap(), "{ }");
    let mode = fs::metadata(built.join("profiles/tool.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "the execute bit is lost");
    for gone in ["machines", "output", "target", "secrets", ".env", "profiles/tls.key", "profiles/data"] {
        assert!(fs::symlink_metadata(built.join(gone)).is_err(), "{gone} is in Nix's store");
    }
}

#[test]
fn no_link_leads_nixvm_astray() {
    let sandbox = Sandbox::new();
    let precious = sandbox.home().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "precious").unwrap();
    let root = workspace(&sandbox, "links");
    fs::create_dir_all(root.join("output/flake/profiles")).unwrap();
    symlink(&precious, root.join("output/flake/d")).unwrap();
    symlink(precious.join("file"), root.join("output/flake/profiles/core.nix")).unwrap();
    build(&sandbox, &root);
    assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "precious");

    symlink("../machines", root.join("profiles/m")).unwrap();
    refused(&sandbox, &root, &["`profiles/m` is a link that leads to `machines`"]);
    fs::remove_file(root.join("profiles/m")).unwrap();
    symlink(&precious, root.join("modules/out")).unwrap();
    refused(&sandbox, &root, &["`modules/out` is a link that leads out of the workspace"]);
    fs::remove_file(root.join("modules/out")).unwrap();
    fs::remove_dir_all(root.join("output")).unwrap();
    symlink(&precious, root.join("output")).unwrap();
    refused(&sandbox, &root, &["output` is a link or a file"]);
    assert_eq!(fs::read_dir(&precious).unwrap().count(), 1);
}

#[test]
fn inputs_are_locked_once_and_update_moves_them() {
    let sandbox = Sandbox::new();
    let root = workspace(&sandbox, "locked");
    let lock = || fs::read_to_string(root.join("flake.lock")).unwrap();
    let first = run(&sandbox, &root, &["build", "core"]);
    assert!(first.code == 0 && first.stderr.contains("flake.lock now locks dep"), "{first:?}");
    let mode = fs::metadata(root.join("flake.lock")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, fs::metadata(root.join("flake.nix")).unwrap().permissions().mode() & 0o644);
    let before = lock();
    let second = run(&sandbox, &root, &["build", "core"]);
    assert!(second.code == 0 && !second.stderr.contains("flake.lock") && lock() == before, "{second:?}");

    // First without a newer revision, then with one.
    let same = run(&sandbox, &root, &["update", "--json"]);
    let json: Value = serde_json::from_str(&same.stdout).unwrap();
    assert_eq!((json["moved"].as_array().unwrap().len(), &json["unchanged"][0]), (0, &"dep".into()));
    assert_eq!(lock(), before);
    fs::write(sandbox.path("../dep/version"), "2").unwrap();
    let moved = run(&sandbox, &root, &["update", "--json"]);
    let json: Value = serde_json::from_str(&moved.stdout).unwrap();
    assert_eq!(json["moved"][0]["input"], "dep", "{moved:?}");
    let revision = |which: &str| json["moved"][0][which]["revision"].as_str().unwrap().to_owned();
    assert!(before.contains(&revision("from")) && lock().contains(&revision("to")), "{json}");
    assert!(lock() != before && !lock().contains(&revision("from")));
    assert_eq!(run(&sandbox, &root, &["build", "core"]).code, 0);

    let unknown = run(&sandbox, &root, &["update", "dpe"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("did you mean `dep`?"), "{unknown:?}");
    fs::write(sandbox.path("../dep/version"), "3").unwrap();
    let said = run(&sandbox, &root, &["update", "dep"]);
    assert!(said.stdout.starts_with("INPUT  FROM") && said.stdout.contains("nixvm diff"), "{said:?}");
}

#[test]
fn a_lock_that_is_broken_or_an_input_that_is_gone_changes_nothing() {
    let sandbox = Sandbox::new();
    let root = workspace(&sandbox, "broken");
    fs::write(root.join("flake.lock"), "<<<<<<< HEAD\n").unwrap();
    refused(&sandbox, &root, &["flake.lock is not a lock file"]);
    assert_eq!(fs::read_to_string(root.join("flake.lock")).unwrap(), "<<<<<<< HEAD\n");
    fs::remove_file(root.join("flake.lock")).unwrap();
    fs::remove_dir_all(sandbox.path("../dep")).unwrap();
    refused(&sandbox, &root, &["cannot lock the inputs of flake.nix"]);
    let ended = run(&sandbox, &root, &["update"]);
    assert!(ended.code == 1 && ended.stderr.contains("flake.lock is unchanged"), "{ended:?}");
    assert!(!root.join("flake.lock").exists());
}

#[test]
fn a_nixpkgs_that_is_replaced_is_neither_locked_nor_moved() {
    let sandbox = Sandbox::new();
    let root = workspace(&sandbox, "replaced");
    let flake = fs::read_to_string(root.join("flake.nix")).unwrap();
    // This path does not exist, so looking it up would fail.
    let with =
        "  inputs.nixpkgs = { url = \"path:/nowhere/nixpkgs\"; flake = false; };\n  outputs = { nixpkgs,";
    fs::write(root.join("flake.nix"), flake.replace("  outputs = {", with)).unwrap();
    let base = sandbox.path("../my base#1");
    fs::create_dir(&base).unwrap();
    fs::write(base.join("flake.nix"), "{ outputs = _: { }; }").unwrap();
    fs::create_dir(root.join("output")).unwrap();
    let base = base.canonicalize().unwrap();
    // The path as a person writes it.
    fs::write(root.join("output/base"), format!("path:{}\n", base.display())).unwrap();
    for command in [&["build", "core"] as &[&str], &["update"], &["shell"], &["build", "core", "--json"]] {
        let brought = run(&sandbox, &root, command);
        let refused =
            format!("output/base names the nixpkgs `path:{}`, and you have not confirmed", base.display());
        assert!(
            brought.code == 1 && (brought.stdout.clone() + &brought.stderr).contains(&refused),
            "{command:?}: {brought:?}"
        );
    }
    // The command from the hint.
    let brought = run(&sandbox, &root, &["build", "core"]).stderr;
    let confirm = brought.split('`').find(|part| part.starts_with("install -D")).expect(&brought);
    assert!(Command::new("sh").args(["-c", confirm]).status().unwrap().success());
    let built = run(&sandbox, &root, &["build", "core"]);
    assert_eq!(
        (built.code, built.stderr.matches("that output/base names: path:").count()),
        (0, 1),
        "{built:?}"
    );
    let lock = fs::read_to_string(root.join("flake.lock")).unwrap();
    assert!(lock.contains("\"dep\"") && !lock.contains("nixpkgs") && !lock.contains("my base"), "{lock}");
    let ended = run(&sandbox, &root, &["update"]);
    assert!(ended.code == 0 && ended.stderr.contains("nixpkgs was left alone"), "{ended:?}");
    assert_eq!(fs::read_to_string(root.join("flake.lock")).unwrap(), lock);
    let ended = run(&sandbox, &root, &["update", "nixpkgs"]);
    assert!(ended.code == 1 && ended.stderr.contains("not from the locked nixpkgs"), "{ended:?}");
    fs::remove_file(root.join("output/base")).unwrap();
    let given = format!("--nixpkgs=path:{}", base.display());
    assert_eq!(run(&sandbox, &root, &[&given, "build", "core"]).code, 0);

    // A locked nixpkgs stays locked while another one is used.
    let flake = fs::read_to_string(root.join("flake.nix")).unwrap();
    let nixpkgs = sandbox.path("../dep").canonicalize().unwrap();
    fs::write(root.join("flake.nix"), flake.replace("/nowhere/nixpkgs", nixpkgs.to_str().unwrap())).unwrap();
    build(&sandbox, &root);
    let lock = fs::read_to_string(root.join("flake.lock")).unwrap();
    assert!(lock.contains("\"nixpkgs\""), "{lock}");
    fs::write(sandbox.path("../dep/version"), "2").unwrap();
    let ended = run(&sandbox, &root, &[&given, "update", "--json"]);
    let json: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(json["moved"].as_array().map(|moved| moved.len()), Some(1), "{ended:?}");
    assert_eq!(json["moved"][0]["input"], "dep");
    let now: Value = serde_json::from_str(&fs::read_to_string(root.join("flake.lock")).unwrap()).unwrap();
    let was: Value = serde_json::from_str(&lock).unwrap();
    assert_eq!(now["nodes"]["nixpkgs"], was["nodes"]["nixpkgs"]);
}
