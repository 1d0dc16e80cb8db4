//! Concurrent builds: Nix builds for a command exactly the files that this command read, whatever others do meanwhile.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sandbox::Sandbox;

/// A flake whose machines' images contain the machine's and the profile's files as Nix got them.
const FLAKE: &str = r#"{
  inputs.machines = { url = "path:./nix/no-machines"; flake = false; };
  inputs.nixpkgs = { url = "path:./nix/no-machines"; flake = false; };
  outputs = { machines, nixpkgs, ... }: {
    packages.SYSTEM = builtins.mapAttrs (name: _: builtins.path {
      name = "image-${builtins.hashString "sha256" (builtins.readFile ./profiles/core.nix + builtins.readFile (nixpkgs + "/version"))}";
      path = machines + "/${builtins.substring 3 (-1) name}";
    }) { vm-web = null; vm-db = null; } // { machines = SHARING; };
  };
}
"#;

const IMAGE: &str = r#"{ "format": 2, "machine": "NAME", "profile": "core", "base": "nixvm-base-00000000000000000000000000000000.qcow2",
  "layout": "shared", "toplevel": "/nix/store/x", "fingerprint": "y", "nixpkgsRevision": "z", "system": "s", "kernel": "k",
  "notCarriedOut": [] }"#;

/// Returns a workspace with the machines `web` and `db`, whose images contain `content`; both share an evaluation.
pub fn workspace() -> Sandbox {
    let sandbox = Sandbox::new();
    write_flake(&sandbox, "builtins.path { name = \"machines\"; path = machines; }");
    sandbox.write("nix/no-machines/README.md", "");
    sandbox.write("nix/no-machines/version", "locked");
    for name in ["web", "db"] {
        let ended = sandbox.run(&["create", name, "--no-build", "--no-keys", "--quiet"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        let file = |file: &str, text: &str| sandbox.write(&format!("machines/{name}/{file}"), text);
        file("extra.nix", "{ a = [ ./image.json ./disk.qcow2 ./base.qcow2 ./content ]; }\n");
        file("image.json", &IMAGE.replace("NAME", name));
        file("disk.qcow2", "");
        file("base.qcow2", "");
        file("content", "first");
    }
    sandbox
}

/// `sharing` is an expression for a folder with the images of machines that share.
fn write_flake(sandbox: &Sandbox, sharing: &str) {
    let system = format!("{}-linux", std::env::consts::ARCH);
    sandbox.write("flake.nix", FLAKE.replace("SYSTEM", &system).replace("SHARING", sharing));
}

/// Returns a `PATH` that begins with a Nix that waits before it builds until the file `go` exists.
fn halting(sandbox: &Sandbox) -> (PathBuf, String) {
    let folder = sandbox.home().join("halting");
    fs::create_dir(&folder).unwrap();
    let real = std::env::var("PATH").unwrap();
    let shown = folder.display();
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' build '*)\n  : > '{shown}/halted'\n  until [ -e '{shown}/go' ]; do sleep 0.05; done;;\nesac\nPATH='{real}' exec nix \"$@\"\n"
    );
    fs::write(folder.join("nix"), script).unwrap();
    fs::set_permissions(folder.join("nix"), fs::Permissions::from_mode(0o755)).unwrap();
    (folder.clone(), format!("{shown}:{real}"))
}

fn build(sandbox: &Sandbox, name: &str, path: &str) -> Child {
    let mut command = sandbox.command(&["build", "--machine", name, "--json", "--quiet"]);
    command.env("PATH", path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Returns the digest that a build reports, and the content of its image.
fn built(sandbox: &Sandbox, name: &str, build: Child) -> (String, PathBuf) {
    let ended = build.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let said: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let image = fs::canonicalize(sandbox.path(&format!("output/build/vm-{name}"))).unwrap();
    (said["generation"]["digest"].as_str().unwrap().to_owned(), image)
}

fn wait_for(file: &Path) {
    let began = Instant::now();
    while !file.exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "{} never came", file.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_image_has_the_digest_of_what_is_in_it_whoever_builds_beside() {
    let sandbox = workspace();
    let (halting, path) = halting(&sandbox);
    let slow = build(&sandbox, "web", &path);
    wait_for(&halting.join("halted"));

    // The same machine, and another, from files that were edited meanwhile.
    sandbox.write("machines/web/content", "second");
    sandbox.write("profiles/core.nix", "# Edited.\n{ }\n");
    let real = std::env::var("PATH").unwrap();
    let (second, image) = built(&sandbox, "web", build(&sandbox, "web", &real));
    assert_eq!(fs::read_to_string(image.join("content")).unwrap(), "second");
    let edited = image.file_name().unwrap().to_owned();
    let (_, other) = built(&sandbox, "db", build(&sandbox, "db", &real));
    assert_eq!(fs::read_to_string(other.join("content")).unwrap(), "first");

    fs::write(halting.join("go"), "").unwrap();
    let (first, image) = built(&sandbox, "web", slow);
    assert_ne!(first, second);
    assert_eq!(fs::read_to_string(image.join("content")).unwrap(), "first");
    let module = fs::read_to_string(image.join("default.nix")).unwrap();
    assert!(module.contains(&first) && !module.contains(&second), "{module}");
    let of_profile =
        |name: &std::ffi::OsStr| name.to_string_lossy().rsplit_once("image-").unwrap().1.to_owned();
    assert_ne!(of_profile(image.file_name().unwrap()), of_profile(&edited));
}

#[test]
fn a_nixpkgs_that_changes_in_its_place_is_another_one() {
    let sandbox = workspace();
    // The place of the offline base, which `offline/prepare` replaces.
    let folder = sandbox.home().join(".cache/nixvm/offline");
    fs::create_dir_all(&folder).unwrap();
    let folder = folder.canonicalize().unwrap();
    fs::write(folder.join("flake.nix"), "{ outputs = _: { }; }").unwrap();
    let version = |version: &str| fs::write(folder.join("version"), version).unwrap();
    sandbox.write("output/base", format!("path:{}\n", folder.display()));
    let real = std::env::var("PATH").unwrap();
    let name = |image: &Path| image.file_name().unwrap().to_owned();

    version("1");
    let (first, one) = built(&sandbox, "web", build(&sandbox, "web", &real));
    version("2");
    let (second, two) = built(&sandbox, "web", build(&sandbox, "web", &real));
    assert!(first != second && name(&one) != name(&two));

    version("1");
    let (halting, path) = halting(&sandbox);
    let slow = build(&sandbox, "web", &path);
    wait_for(&halting.join("halted"));
    version("2");
    fs::write(halting.join("go"), "").unwrap();
    let (digest, image) = built(&sandbox, "web", slow);
    assert!(digest == first && name(&image) == name(&one), "it was built from what came later");
}

/// Promise 13: machines that share an evaluation cost one process of Nix, however many they are.
#[test]
fn promise_13_machines_that_share_are_built_by_one_process_of_nix() {
    let sandbox = workspace();
    let folder = sandbox.home().join("counting");
    fs::create_dir(&folder).unwrap();
    let real = std::env::var("PATH").unwrap();
    let (shown, log) = (folder.display(), folder.join("log"));
    let script = format!("#!/bin/sh\necho \"$*\" >>'{shown}/log'\nPATH='{real}' exec nix \"$@\"\n");
    fs::write(folder.join("nix"), script).unwrap();
    fs::set_permissions(folder.join("nix"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{shown}:{real}");
    // Returns which outputs of the flake Nix was told to build, in order.
    let outputs = |machines: &[&str]| -> Vec<String> {
        let _ = fs::remove_file(&log);
        let words = [&["build", "--quiet", "--machine"], machines].concat();
        let ended = sandbox.ended(sandbox.command(&words).env("PATH", &path));
        assert_eq!((ended.code, ended.stdout.lines().count()), (0, 2), "{ended:?}");
        let log = fs::read_to_string(&log).unwrap();
        let builds = log.lines().filter_map(|line| Some(line.rsplit_once('#')?.1.to_owned()));
        builds.collect()
    };
    assert_eq!(outputs(&["web", "db"]), ["machines"]);
    assert_eq!(outputs(&["*"]), ["machines"], "a glob is as good as names");
    // A machine that is not in that output is evaluated by itself.
    let one = "builtins.path { name = \"machines\"; path = machines; filter = path: _: baseNameOf (dirOf path) == \"db\" || baseNameOf path == \"db\"; }";
    write_flake(&sandbox, one);
    assert_eq!(outputs(&["web", "db"]), ["machines", "vm-web"]);
    // If one of them cannot be built, each is built by itself, so that the error is that of its machine.
    write_flake(&sandbox, "throw \"one of them\"");
    assert_eq!(outputs(&["web", "db"]), ["machines", "vm-db", "vm-web"]);
}
