//! Hosts and users that lack something nixvm needs: the messages, and the owners of files.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use crate::sandbox::Sandbox;

/// A user that no host has.
const SOMEBODY: u32 = 4242;

/// Returns a folder with a Nix that can only print this version.
fn with_nix(sandbox: &Sandbox) -> PathBuf {
    let folder = sandbox.home().join("bin");
    fs::create_dir_all(&folder).unwrap();
    let nix = folder.join("nix");
    fs::write(&nix, "#!/bin/sh\n[ \"$1\" = --version ] && echo 'nix (Nix) 2.31.2' || exit 1\n").unwrap();
    fs::set_permissions(&nix, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn is_root(sandbox: &Sandbox) -> bool {
    fs::metadata(sandbox.path("")).unwrap().uid() == 0
}

/// Gives the sandbox and its files to this user.
fn give(sandbox: &Sandbox, user: u32) {
    let root = sandbox.home().parent().unwrap().to_owned();
    for entry in walkdir::WalkDir::new(root) {
        lchown(entry.unwrap().path(), Some(user), Some(user)).unwrap();
    }
}

/// libvirt's test driver is a host of 3 GiB.
#[test]
fn more_memory_than_the_host_has_is_said_with_the_hosts_figure() {
    let sandbox = Sandbox::new().with_web();
    let told = "have 4G of memory, and its host has 3072M in all";
    let set = sandbox.run(&["set", "web", "memory=4G"]);
    assert_eq!(set.code, 0, "{set:?}");
    assert!(set.stderr.contains(told), "{set:?}");
    let fits = sandbox.run(&["set", "web", "memory=3G"]);
    assert_eq!((fits.code, fits.stderr.contains("memory, and its host")), (0, false), "{fits:?}");
    let path = with_nix(&sandbox);
    let create = sandbox.run_with_path(&["create", "big", "--memory", "4096", "--no-keys"], &path);
    assert_eq!(create.code, 1, "that Nix builds nothing: {create:?}");
    assert!(create.stderr.contains(told), "{create:?}");
}

#[test]
fn a_session_in_somebody_elses_folders_is_refused_before_it_makes_any() {
    let sandbox = Sandbox::new();
    let list = ["--connect", "qemu:///session", "list"];
    let refused = |variable: &str, value: &str, error: &str, hint: &str| {
        let ended = sandbox.ended(sandbox.command(&list).env(variable, value));
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
        assert!(ended.stderr.starts_with(&format!("error: {error}")), "{ended:?}");
        assert!(ended.stderr.contains(hint) && !ended.stderr.contains("group `libvirt`"), "{ended:?}");
    };
    refused(
        "XDG_RUNTIME_DIR",
        "/nonexistent/run",
        "XDG_RUNTIME_DIR is /nonexistent/run, which",
        "enable-linger",
    );
    let other = if is_root(&sandbox) {
        let other = sandbox.home().join("other");
        fs::create_dir(&other).unwrap();
        chown(&other, Some(SOMEBODY), None).unwrap();
        other
    } else {
        PathBuf::from("/")
    };
    let shown = other.display().to_string();
    refused(
        "XDG_RUNTIME_DIR",
        &shown,
        &format!("XDG_RUNTIME_DIR is {shown}, which belongs to user "),
        "env -u XDG",
    );
    refused("HOME", &shown, &format!("HOME is {shown}, which belongs to user "), "`sudo -i`");
    assert!(other == *"/" || fs::read_dir(&other).unwrap().next().is_none(), "libvirt was there");
    // The system's libvirt uses none of these folders.
    let ended = sandbox.ended(sandbox.command(&["list"]).env("XDG_RUNTIME_DIR", "/nonexistent/run"));
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn a_path_too_long_for_libvirts_sockets_is_refused_before_anything_is_written() {
    let sandbox = Sandbox::new();
    let long = sandbox.home().join("x".repeat(100));
    let before = sandbox.snapshot();
    let create = ["--connect", "qemu:///session", "create", "web", "--network", "user", "--no-keys"];
    let path = with_nix(&sandbox);
    let ended = sandbox.ended(sandbox.command(&create).env("XDG_CONFIG_HOME", &long).env("PATH", path));
    if ended.stderr.contains("cannot connect to libvirt") {
        // This host cannot run a user's libvirt daemon.
        return;
    }
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.stderr.contains("longer than 107 bytes") && ended.stderr.contains("XDG_CONFIG_HOME"),
        "{ended:?}"
    );
    assert!(sandbox.snapshot() == before);
}

#[test]
fn what_root_writes_belongs_to_the_owner_of_the_workspace() {
    let sandbox = Sandbox::new();
    if !is_root(&sandbox) {
        return;
    }
    give(&sandbox, SOMEBODY);
    let by_root: [&[&str]; 4] = [
        &["create", "web", "--no-build", "--no-keys", "--quiet"],
        &["set", "web", "memory=1G"],
        &["create", "db", "--no-build", "--no-keys", "--quiet"],
        &["build", "--machine", "db"],
    ];
    // The flake has no such output, so Nix fails after staging and rendering.
    let path = std::env::var_os("PATH").unwrap();
    for arguments in by_root {
        // Like sudo.
        let caller = SOMEBODY.to_string();
        let ended = sandbox.ended(sandbox.command(arguments).env("PATH", &path).env("SUDO_UID", caller));
        assert_eq!(ended.code, i32::from(arguments[0] == "build"), "{ended:?}");
    }
    let mut seen = 0;
    for entry in walkdir::WalkDir::new(sandbox.path("")).into_iter().map(Result::unwrap) {
        let metadata = entry.path().symlink_metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (SOMEBODY, SOMEBODY), "{}", entry.path().display());
        seen += usize::from(entry.path().starts_with(sandbox.path("output")));
    }
    assert!(seen > 8, "locks, the staged flake and the rendered module were looked at: {seen}");
    for arguments in [&["set", "web", "vcpus=3"][..], &["list-machines"], &["purge", "db", "--yes"]] {
        let ended = sandbox.ended(sandbox.command(arguments).uid(SOMEBODY).gid(SOMEBODY));
        assert_eq!(ended.code, 0, "{arguments:?} as its owner: {ended:?}");
    }
}

#[test]
fn a_umask_that_keeps_nothing_back_opens_nothing_to_everybody() {
    let sandbox = Sandbox::new();
    let path = std::env::var_os("PATH").unwrap();
    let script = "umask 000; \"$0\" create web --no-build --no-keys; \"$0\" set web memory=1G; \"$0\" start web; \
                  \"$0\" build --machine web; \"$0\" create db --no-keys; \"$0\" clone web other; \"$0\" doctor; :";
    let mut shell = std::process::Command::new("/bin/sh");
    let nixvm = sandbox.command(&[]);
    shell.args(["-c", script]).arg(nixvm.get_program()).current_dir(sandbox.path("")).env_clear();
    shell.envs(nixvm.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", path);
    assert_eq!(sandbox.ended(&mut shell).code, 0);
    let mut seen = 0;
    for folder in [sandbox.path("output"), sandbox.path("machines/web"), sandbox.home()] {
        for entry in walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap) {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert!(entry.path_is_symlink() || mode & 0o022 == 0, "{mode:o} {}", entry.path().display());
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen} files and folders were looked at");
}

/// As git does with `safe.directory`.
#[test]
fn another_users_workspace_is_taken_only_where_it_is_allowed() {
    let sandbox = Sandbox::new();
    if !is_root(&sandbox) {
        return;
    }
    give(&sandbox, SOMEBODY);
    let workspace = sandbox.path("").canonicalize().unwrap();
    let root = |arguments: &[&str]| sandbox.command(&[arguments, &["list-profiles"]].concat());
    let refused = |mut command: std::process::Command| {
        let ended = sandbox.ended(&mut command);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
        assert!(ended.stderr.contains(" belongs to user 4242, and you are user "), "{ended:?}");
        assert!(ended.stderr.contains("hint: ") && ended.stderr.contains("--trust "), "{ended:?}");
    };
    refused(root(&[]));
    refused(root(&["-C", "."]));
    refused(root(&["--trust", "profiles"]));
    let mut posing = root(&[]);
    posing.env("SUDO_UID", "4242").uid(SOMEBODY + 1).gid(SOMEBODY + 1);
    refused(posing);
    let taken = |command: &mut std::process::Command| assert_eq!(sandbox.ended(command).code, 0);
    taken(root(&[]).env("SUDO_UID", "4242"));
    taken(root(&[]).uid(SOMEBODY).gid(SOMEBODY));
    taken(&mut root(&["--trust", "."]));
    taken(root(&[]).env("NIXVM_TRUST", format!("/nowhere:{}", workspace.display())));
}

#[test]
fn a_workspace_that_anyone_may_have_put_into_a_shared_folder_is_refused() {
    let sandbox = Sandbox::new();
    let shared = sandbox.home().parent().unwrap().canonicalize().unwrap();
    fs::write(shared.join("flake.nix"), "{ }").unwrap();
    fs::create_dir(shared.join("profiles")).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
    let below = |arguments: &[&str]| sandbox.ended(sandbox.command(arguments).current_dir(sandbox.home()));
    let ended = below(&["list-profiles"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
    let why = format!("the workspace {} can be written by every user of this host", shared.display());
    assert!(ended.stderr.contains(&why), "{ended:?}");
    assert_eq!(below(&["-C", "..", "list-profiles"]).code, 1);
    assert_eq!(below(&["--trust", "..", "list-profiles"]).code, 0);
    // A user's own workspace inside it is trusted.
    assert_eq!(sandbox.run(&["list-profiles"]).code, 0);
}

#[test]
fn what_an_earlier_sudo_left_is_told_with_the_way_to_give_it_back() {
    let sandbox = Sandbox::new().with_web();
    if !is_root(&sandbox) {
        return;
    }
    give(&sandbox, SOMEBODY);
    lchown(sandbox.path("machines/web/memory"), Some(0), Some(0)).unwrap();
    let as_owner = |arguments: &[&str]| sandbox.ended(sandbox.command(arguments).uid(SOMEBODY).gid(SOMEBODY));
    let ended = as_owner(&["set", "web", "vcpus=3"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.stderr.contains("machines/web/memory belongs to user 0, and you are user 4242"),
        "{ended:?}"
    );
    let checks: serde_json::Value = serde_json::from_str(&as_owner(&["doctor", "--json"]).stdout).unwrap();
    let check = checks.as_array().unwrap().iter().find(|check| check["name"] == "workspace").unwrap();
    assert_eq!(check["health"], "fault");
    assert!(check["mend"].as_str().unwrap().starts_with("sudo chown -R --no-dereference 4242: "), "{check}");
}

#[test]
fn doctor_names_its_checks_as_ever() {
    let sandbox = Sandbox::new();
    let ended = sandbox.run_with_path(&["doctor", "--json"], &with_nix(&sandbox));
    let checks: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let names: Vec<&str> =
        checks.as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    for name in [
        "Nix",
        "Nix features",
        "qemu-img",
        "mkfs.ext4",
        "ssh",
        "libvirt",
        "groups",
        "firmware",
        "KVM",
        "storage pool",
        "network",
        "UFW",
        "space for Nix",
        "Nix's builds",
        "confinement",
        "workspace",
    ] {
        assert!(names.contains(&name), "no {name} in {names:?}");
    }
    let builds = sandbox.ended(sandbox.command(&["doctor", "--json"]).env("TMPDIR", "/nonexistent/tmp"));
    if is_root(&sandbox) && builds.stdout.contains("/nonexistent/tmp, where Nix builds") {
        assert_eq!(builds.code, 1, "{builds:?}");
    }
}
