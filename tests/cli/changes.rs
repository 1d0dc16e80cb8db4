//! Commands that change an existing machine, as far as they need no guest.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::pty::Pty;
use crate::sandbox::{Ended, Sandbox};

fn read(sandbox: &Sandbox, file: &str) -> String {
    fs::read_to_string(sandbox.path(&format!("machines/web/{file}"))).unwrap()
}

/// Checks that a command is refused with this code and these words, and changes no file.
fn refused(sandbox: &Sandbox, arguments: &[&str], input: &str, code: i32, words: &[&str]) {
    let before = sandbox.snapshot();
    let ended = sandbox.run_with_input(arguments, input);
    assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{arguments:?}: {ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "no `{word}` in {ended:?}");
    }
    assert!(sandbox.snapshot() == before, "{arguments:?} changed a file");
}

#[test]
fn set_takes_pairs_and_options_and_says_when_they_are_in_force() {
    let sandbox = Sandbox::new().with_web();
    sandbox.write("machines/web/vcpus", "# two\n2\n");
    let set = sandbox.run(&["set", "web", "memory=4G", "vcpus=2", "--var-size", "50"]);
    assert_eq!(set.code, 0, "{set:?}");
    assert_eq!(
        set.stdout,
        "memory: 2G -> 4G, at the next start\nvcpus: 2, unchanged\nvar_size: 20G -> 50G, at the next start\n"
    );
    assert_eq!((read(&sandbox, "memory"), read(&sandbox, "var_size")), ("4G\n".into(), "50G\n".into()));
    assert_eq!(read(&sandbox, "vcpus"), "# two\n2\n", "what stays is not written");
    let autostart = sandbox.run(&["set", "web", "autostart=yes"]);
    assert_eq!(
        (autostart.stdout.as_str(), read(&sandbox, "autostart").as_str()),
        ("autostart: no -> yes, now\n", "yes\n")
    );
    assert!(sandbox.run(&["status", "web"]).stdout.contains("\nautostart:  yes\n"));
    let json = sandbox.run(&["set", "web", "memory=4G", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["settings"][0]["effect"], "unchanged");
}

#[test]
fn set_writes_nothing_where_one_value_is_wrong() {
    let sandbox = Sandbox::new().with_web();
    for (arguments, word) in [
        (&["set", "web"][..], "no setting was given"),
        (&["set", "web", "memory"], "`memory` is not KEY=VALUE"),
        (&["set", "web", "memory=4G", "disk=4G"], "unknown setting `disk`"),
        (&["set", "web", "vcpu=4"], "did you mean `vcpus`?"),
        (&["set", "web", "memory=4G", "--memory", "5G"], "`memory` is given twice"),
        (&["set", "web", "memory=4G", "vcpus=0"], "`0` is not a number of virtual CPUs"),
        (&["set", "web", "vcpus=4", "var_size=-1"], "`-1` is not a size of a disk"),
        (&["set", "web", "vcpus=4", "memory="], "is not a size of memory"),
        (&["set", "web", "vcpus=4", "autostart=on"], "`on` is neither `yes` nor `no`"),
    ] {
        refused(&sandbox, arguments, "", 2, &["error: ", word, "\nhint: "]);
    }
    refused(
        &sandbox,
        &["set", "wbe", "vcpus=4"],
        "",
        1,
        &["there is no machine `wbe`", "did you mean `web`?"],
    );
}

#[test]
fn a_password_becomes_a_hash_that_nobody_sees() {
    let sandbox = Sandbox::new().with_web();
    let set = sandbox.run_with_input(&["passwd", "web", "--stdin"], "hunter2\n");
    assert_eq!(set.code, 0, "{set:?}");
    assert!(set.stderr.contains("next start"), "{set:?}");
    let hash = read(&sandbox, "root_password_hash");
    assert!(hash.starts_with("$y$") && hash.lines().count() == 1);
    let shown = |ended: &Ended| format!("{}{}", ended.stdout, ended.stderr);
    assert!(!shown(&set).contains("hunter2") && !shown(&set).contains(hash.trim()));
    let mode = fs::metadata(sandbox.path("machines/web/root_password_hash")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let given = "$6$salt$hash";
    for (arguments, input) in [
        (&["passwd", "web", "--hash", "-"][..], "$6$salt$hash\n"),
        (&["passwd", "web", "--hash", "../home/hash"], ""),
    ] {
        sandbox.write("machines/web/root_password_hash", "");
        fs::write(sandbox.home().join("hash"), given).unwrap();
        let set = sandbox.run_with_input(arguments, input);
        assert_eq!((set.code, read(&sandbox, "root_password_hash")), (0, format!("{given}\n")), "{set:?}");
    }
    let locked = sandbox.run_with_input(&["passwd", "web", "--stdin", "--json"], "\n");
    assert_eq!(read(&sandbox, "root_password_hash"), "");
    let json: serde_json::Value = serde_json::from_str(&locked.stdout).unwrap();
    assert_eq!(json, serde_json::json!({ "machine": "web", "locked": true }));
}

#[test]
fn what_is_no_password_or_hash_is_refused_unseen() {
    let sandbox = Sandbox::new().with_web();
    refused(&sandbox, &["passwd", "web"], "hunter2\n", 2, &["cannot ask without a terminal", "`--stdin`"]);
    for (arguments, input) in [
        (&["passwd", "web", "--hash", "-"][..], "hunter2\n"),
        (&["passwd", "web", "--stdin"], "hunter2\nhunter3\n"),
        (&["passwd", "web", "--stdin"], "hunter2\0\n"),
    ] {
        refused(&sandbox, arguments, input, 1, &["error: ", "\nhint: "]);
        assert!(!sandbox.run_with_input(arguments, input).stderr.contains("hunter2"), "{arguments:?}");
    }
    refused(&sandbox, &["passwd", "web", "--hash", "none"], "", 1, &["cannot read `none`"]);
}

#[test]
fn a_network_is_written_checked_and_asked_for_only_at_a_terminal() {
    let sandbox = Sandbox::new().with_web();
    let set = sandbox.run(&["network-config", "web", "user", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&set.stdout).unwrap();
    assert_eq!((json["before"].as_str(), json["network"].as_str()), (Some("nat"), Some("user")), "{set:?}");
    assert_eq!(read(&sandbox, "network"), "user\n");
    let same = sandbox.run(&["network-config", "web", "user"]);
    assert_eq!((same.code, same.stderr.as_str()), (0, "note: the network of web is user already\n"));
    refused(
        &sandbox,
        &["network-config", "web"],
        "",
        2,
        &["cannot ask without a terminal", "network-config NAME"],
    );
    refused(&sandbox, &["network-config", "web", "bridge:no-such"], "", 1, &["no bridge `no-such`"]);
    refused(&sandbox, &["network-config", "web", "wifi"], "", 2, &["`wifi` is not a network"]);
    // A remote host does not have this host's bridges.
    let server = "qemu+ssh://root@server/system";
    sandbox.write("machines/web/connection", server);
    let there = ["network-config", "web", "bridge", "--connect", server];
    refused(&sandbox, &there, "", 2, &["bridges of `server`", "bridge:IF"]);
}

#[test]
fn copies_need_two_names_and_something_to_copy() {
    let sandbox = Sandbox::new().with_web();
    for verb in ["clone", "rename"] {
        refused(&sandbox, &[verb, "web", "web"], "", 2, &["both names are `web`"]);
        refused(&sandbox, &[verb, "web", "Web"], "", 2, &["`Web`"]);
        refused(&sandbox, &[verb, "wbe", "db"], "", 1, &["there is no machine `wbe`"]);
    }
    refused(&sandbox, &["recreate", "web", "--yes"], "", 1, &["has no domain `web`"]);
    refused(&sandbox, &["recreate", "web", "x", "--yes"], "", 2, &["`x` is not a size of a disk"]);
    refused(&sandbox, &["logs", "web"], "", 1, &["has no domain `web`"]);
    let both = sandbox.run(&["logs", "web", "-f", "--json"]);
    assert!(both.code == 2 && both.stdout.contains("leave out one of the two"), "{both:?}");
}

#[test]
fn a_machine_without_a_domain_is_renamed_by_its_files() {
    let sandbox = Sandbox::new().with_web();
    let id = read(&sandbox, "machine-id");
    let renamed = sandbox.run(&["rename", "web", "www"]);
    assert_eq!(renamed.code, 0, "{renamed:?}");
    assert_eq!(sandbox.run(&["list-machines"]).stdout, "www\n");
    let read = |file: &str| fs::read_to_string(sandbox.path(&format!("machines/www/{file}"))).unwrap();
    assert_eq!((read("machine-id"), read("hostname")), (id, "www\n".into()));
    sandbox.write("machines/db/notes", "mine");
    refused(&sandbox, &["rename", "www", "db"], "", 1, &["machines/db exists"]);
}

/// Returns a libvirt (a file for its test driver) with a machine `web` that runs and has the snapshot `old`.
fn libvirt_with_web(sandbox: &Sandbox) -> String {
    let node = sandbox.home().join("node.xml");
    let workspace = sandbox.path("").canonicalize().unwrap();
    let xml = format!(
        "<node><domain type='test'><name>web</name><uuid>0b5f0e4c-5a4b-4c7e-9f57-0d6f6f1f8a11</uuid>\
         <metadata><nixvm:machine xmlns:nixvm='urn:nixvm:domain:1' name='web' workspace='{}' volumes='web' generation='1'>\
         <nixvm:generation number='1' profile='core' digest='{}' base='b' made='1' health='untried' nixpkgs='n' kernel='6'/>\
         <nixvm:snapshot name='old' taken='1' layer='1' nvram='no' generation='1' consistent='yes'/>\
         </nixvm:machine></metadata><memory>8192</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain></node>",
        workspace.display(),
        "d".repeat(64)
    );
    fs::write(&node, xml).unwrap();
    let connect = format!("test://{}", node.display());
    sandbox.write("machines/web/connection", format!("{connect}\n"));
    connect
}

#[test]
fn a_slip_in_one_of_several_names_is_found_before_anything_is_done() {
    let sandbox = Sandbox::new().with_web();
    let connect = libvirt_with_web(&sandbox);
    let there = sandbox.run(&["--connect", &connect, "force-stop", "web"]);
    assert!(there.code == 0 && there.stderr.contains("web"), "{there:?}");
    for verb in ["start", "stop", "force-stop", "reboot", "upgrade", "backup"] {
        for names in [["web", "wbe"], ["wbe", "web"]] {
            let arguments = [&["--connect", &connect, verb][..], &names].concat();
            let words = [
                "error: 1 of these 2 machines cannot be worked on; nothing was changed",
                "cause: wbe: ",
                "`web`",
            ];
            refused(&sandbox, &arguments, "", 1, &words);
            let said = sandbox.run(&arguments).stderr;
            assert!(said.starts_with("error: "), "something was done: {said}");
        }
    }
    refused(&sandbox, &["build", "core", "dokcer"], "", 1, &["error: there is no profile `dokcer`"]);
    assert!(!sandbox.path("output").exists());
}

#[test]
fn a_command_looks_before_it_asks_and_leaves_nothing_of_a_machine_that_is_not_there() {
    let sandbox = Sandbox::new().with_web();
    for arguments in [
        &["destroy", "nosuch"][..],
        &["destroy", "web"],
        &["destroy", "nosuch", "--yes"],
        &["purge", "nosuch"],
        &["purge", "nosuch", "--yes"],
        &["recreate", "nosuch"],
        &["start", "nosuch"],
        &["restore-snapshot", "nosuch", "old"],
        &["delete-snapshot", "nosuch", "old", "--yes"],
        &["snapshot", "nosuch"],
        &["passwd", "nosuch"],
        &["network-config", "nosuch"],
    ] {
        // A question without a terminal ends with 2.
        refused(&sandbox, arguments, "", 1, &["error: "]);
    }
    let work = sandbox.path("output/work");
    assert!(!work.exists() || fs::read_dir(work).unwrap().next().is_none());
    let connect = libvirt_with_web(&sandbox);
    for arguments in [["restore-snapshot", "web", "odl"], ["delete-snapshot", "web", "odl"]] {
        let arguments = [&["--connect", &connect], &arguments[..]].concat();
        refused(&sandbox, &arguments, "", 1, &["web has no snapshot `odl`", "did you mean `old`?"]);
    }
    refused(
        &sandbox,
        &["--connect", &connect, "delete-snapshot", "web", "old"],
        "",
        2,
        &["cannot ask", "`--yes`"],
    );
    let archive = ["--connect", &connect, "restore-backup", "web", "nosuch.tar.zst"];
    refused(&sandbox, &archive, "", 1, &["cannot read the archive"]);
}

#[test]
fn the_data_of_a_protected_machine_is_neither_deleted_nor_replaced() {
    let sandbox = Sandbox::new().with_web();
    let set = sandbox.run(&["set", "web", "protect=yes"]);
    assert_eq!(
        (set.stdout.as_str(), read(&sandbox, "protect").as_str()),
        ("protect: no -> yes, now\n", "yes\n")
    );
    assert!(sandbox.run(&["status", "web"]).stdout.contains("\nprotected:  yes\n"));
    // A machine that is only declared has files to lose.
    refused(&sandbox, &["purge", "web", "--yes"], "", 1, &["error: web is protected"]);

    let connect = libvirt_with_web(&sandbox);
    let run = |arguments: &[&str]| sandbox.run(&[&["--connect", &connect], arguments].concat());
    for arguments in [
        &["destroy", "web"][..],
        &["purge", "web"],
        &["recreate", "web"],
        &["restore-snapshot", "web", "old"],
        &["delete-snapshot", "web", "old"],
        &["restore-backup", "web", "nosuch.tar.zst"],
    ] {
        let words = [
            "error: web is protected, as machines/web/protect says; nothing was changed",
            "hint: `--unprotect`",
            "`nixvm set web protect=no`",
        ];
        // Before anything is asked, and also where nothing is.
        for yes in [&[][..], &["--yes"]] {
            refused(&sandbox, &[&["--connect", &connect], arguments, yes].concat(), "", 1, &words);
        }
        let forced = run(&[arguments, &["--unprotect"]].concat());
        assert!(!forced.stderr.contains("protected"), "{forced:?}");
        assert_ne!(forced.code, 0, "{arguments:?} asks, or finds no archive: {forced:?}");
    }
    // What is not certain is refused.
    sandbox.write("machines/web/protect", "maybe\n");
    let words = ["machines/web/protect, line 1, is wrong", "`maybe` is neither `yes` nor `no`"];
    refused(&sandbox, &["--connect", &connect, "destroy", "web", "--yes"], "", 1, &words);
    sandbox.write("machines/web/protect", "no\n");
    assert!(run(&["destroy", "web"]).stderr.contains("cannot ask"));
}

#[test]
fn a_machine_that_is_protected_while_somebody_thinks_about_the_question_stays() {
    let sandbox = Sandbox::new().with_web();
    let mut asked = Pty::new(&sandbox, (80, 24), &["purge", "web"]);
    asked.until("the question", |said| said.contains("Delete web"));
    sandbox.write("machines/web/protect", "yes\n");
    asked.press("y");
    asked.until("the refusal", |said| said.contains("web is protected, as machines"));
    assert_eq!(asked.code(), Some(1));
    assert!(sandbox.path("machines/web/machine-id").exists());
}
