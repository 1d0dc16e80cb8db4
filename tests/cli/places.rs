//! Where a machine is, and which workspace owns it: its files record both, and no command asks again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use serde_json::Value;

use crate::sandbox::{Ended, Sandbox};

/// Returns the URI of a libvirt whose domain `NAME` is a machine of this workspace, with its disks in the pool `fast`.
fn host(sandbox: &Sandbox, name: &str, uuid: &str, workspace: &str) -> String {
    let disk = |serial: &str, file: &str, target: &str| {
        format!(
            "<disk type='file' device='disk'><source file='/fast/web.{file}'/><target dev='{target}' bus='virtio'/>\
             <serial>nixvm-{serial}</serial></disk>"
        )
    };
    let disks = [
        disk("boot", "boot-1.qcow2", "vda"),
        disk("data", "data-1.qcow2", "vdb"),
        disk("identity", "identity.img", "vdc"),
    ];
    let xml = format!(
        "<node><domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>131072</memory>\
         <metadata><n:machine xmlns:n='urn:nixvm:domain:1' name='{name}' workspace='{workspace}' volumes='web' generation='1'>\
         <n:generation number='1' profile='core' digest='d' base='b' made='1' health='healthy' nixpkgs='n' kernel='k'/>\
         </n:machine></metadata><os><type>hvm</type></os><devices>{}</devices></domain>\
         <pool type='dir'><name>fast</name><target><path>/fast</path></target></pool>\
         <pool type='dir'><name>nixvm</name><target><path>/slow</path></target></pool></node>",
        disks.concat()
    );
    sandbox.write("../host.xml", xml);
    format!("test://{}", sandbox.path("../host.xml").canonicalize().unwrap().display())
}

fn read(sandbox: &Sandbox, name: &str) -> String {
    fs::read_to_string(sandbox.path(&format!("machines/web/{name}"))).unwrap()
}

fn with(sandbox: &Sandbox, variables: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut command = sandbox.command(arguments);
    command.env_remove("NIXVM_CONNECT").envs(variables.iter().copied());
    sandbox.ended(&mut command)
}

fn refused(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{ended:?}");
    for word in words.iter().chain(&["hint: "]) {
        assert!(ended.stderr.contains(word), "no `{word}` in {ended:?}");
    }
}

/// Promise 12: values given at `create` are never needed again, and a contradicting one is refused by name.
#[test]
fn promise_12_where_a_machine_is_is_written_with_it() {
    let sandbox = Sandbox::new();
    let given = [("NIXVM_POOL", "fast"), ("NIXVM_CONNECT", "test:///default")];
    let create = ["create", "web", "--no-build", "--no-keys"];
    let created = with(&sandbox, &given, &create);
    assert_eq!(created.code, 0, "{created:?}");
    assert_eq!(
        (read(&sandbox, "pool"), read(&sandbox, "connection")),
        ("fast\n".into(), "test:///default\n".into())
    );

    let status = with(&sandbox, &[], &["status", "web", "--json"]);
    let json: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!((json["pool"].as_str(), json["connection"].as_str()), (Some("fast"), Some("test:///default")));
    let shown = with(&sandbox, &given, &["status", "web"]).stdout;
    assert!(shown.contains("pool:       fast\nconnection: test:///default\n"), "{shown}");

    for arguments in [&["status", "web"][..], &["start", "web"], &["destroy", "web", "--yes"], &create] {
        let before = sandbox.snapshot();
        let pool = with(&sandbox, &[("NIXVM_POOL", "slow")], arguments);
        refused(
            &pool,
            2,
            &["`web` is in the pool `fast`, as machines/web/pool says, and NIXVM_POOL says `slow`"],
        );
        let flag = with(&sandbox, &given, &[arguments, &["--pool=slow"]].concat());
        refused(&flag, 2, &["--pool says `slow`", "leave `--pool` out"]);
        let connect = with(&sandbox, &[("NIXVM_CONNECT", "qemu:///session")], arguments);
        refused(&connect, 2, &["at the libvirt `test:///default`", "NIXVM_CONNECT says `qemu:///session`"]);
        assert!(sandbox.snapshot() == before);
    }
    sandbox.write("machines/web/pool", "a b\n");
    refused(&with(&sandbox, &[], &["status", "web"]), 1, &["machines/web/pool, line 1, is wrong"]);
}

#[test]
fn what_an_interrupted_command_left_is_looked_for_where_it_is() {
    let sandbox = Sandbox::new();
    let left = "{\"format\":1,\"holder\":{\"pid\":1,\"command\":\"restore-backup db\",\"since\":1},\"pool\":\"fast\",\
                \"connection\":\"test:///default\",\"is_birth\":true,\"only_onward\":false,\"steps\":[\"a\",\"b\"],\"done\":0,\
                \"volumes\":[\"db.data-1.qcow2\"]}";
    sandbox.write("output/work/db.json", left);
    for (variable, value) in [("NIXVM_POOL", "slow"), ("NIXVM_CONNECT", "qemu:///session")] {
        let ended = with(&sandbox, &[(variable, value)], &["purge", "db", "--yes"]);
        refused(&ended, 2, &["as output/work/db.json says", variable]);
    }
    let settled = with(&sandbox, &[], &["purge", "db", "--yes"]);
    refused(
        &settled,
        1,
        &["`nixvm restore-backup db` was interrupted", "no machine `db` at `test:///default`"],
    );
    assert!(!sandbox.path("output/work/db.json").exists(), "{settled:?}");
}

#[test]
fn a_deletion_whose_last_step_nobody_wrote_down_is_finished_by_the_next() {
    let interrupted = ["destroy", "purge"];
    let next = ["destroy", "purge"];
    for (interrupted, next) in interrupted.iter().flat_map(|first| next.iter().map(move |then| (first, then)))
    {
        let sandbox = Sandbox::new();
        let left = format!(
            "{{\"format\":2,\"holder\":{{\"pid\":1,\"command\":[\"{interrupted}\",\"db\"],\"since\":1}},\"pool\":\"fast\",\
             \"connection\":\"test:///default\",\"is_birth\":false,\"only_onward\":true,\
             \"steps\":[{{\"title\":\"a\"}},{{\"title\":\"b\"}}],\"done\":1,\"volumes\":[]}}"
        );
        sandbox.write("output/work/db.json", left);
        let ended = with(&sandbox, &[], &[next, "db", "--yes"]);
        assert_eq!(ended.code, 0, "{interrupted}, then {next}: {ended:?}");
        assert!(!sandbox.path("output/work/db.json").exists(), "{ended:?}");
        let at = [("NIXVM_CONNECT", "test:///default")];
        refused(&with(&sandbox, &at, &[next, "db", "--yes"]), 1, &["no machine `db`"]);
    }
}

#[test]
fn a_machine_that_was_made_before_is_found_by_its_domain_and_written_down() {
    let sandbox = Sandbox::new().with_web();
    let (uuid, workspace) = (read(&sandbox, "uuid"), sandbox.path("").canonicalize().unwrap());
    let uri = host(&sandbox, "web", uuid.trim(), &workspace.display().to_string());
    for file in ["pool", "connection"] {
        fs::remove_file(sandbox.path(&format!("machines/web/{file}"))).unwrap();
    }
    let at = ("NIXVM_CONNECT", uri.as_str());
    let slow = with(&sandbox, &[at, ("NIXVM_POOL", "nixvm")], &["stop", "web"]);
    refused(&slow, 2, &["`web` is in the pool `fast`, as its domain says, and NIXVM_POOL says `nixvm`"]);

    sandbox.write("hash", "$6$salt$hash\n");
    let set = with(&sandbox, &[at], &["passwd", "web", "--hash", "hash"]);
    assert_eq!(set.code, 0, "{set:?}");
    assert_eq!((read(&sandbox, "pool"), read(&sandbox, "connection")), ("fast\n".into(), format!("{uri}\n")));
    let status = with(&sandbox, &[], &["status", "web"]);
    assert!(status.code == 0 && status.stdout.contains("pool:       fast\n"), "{status:?}");

    // A manual change of the file does not lead a command into another pool.
    sandbox.write("machines/web/pool", "nixvm\n");
    let destroyed = with(&sandbox, &[], &["destroy", "web", "--yes"]);
    refused(&destroyed, 1, &["the disks of web are in the pool `fast`, but machines/web/pool says `nixvm`"]);
}

#[test]
fn a_libvirt_that_does_not_answer_hides_no_other() {
    let sandbox = Sandbox::new().with_web();
    let gone = "qemu:///system?socket=/nowhere";
    let db = with(&sandbox, &[("NIXVM_CONNECT", gone)], &["create", "db", "--no-build", "--no-keys"]);
    assert_eq!(db.code, 0, "{db:?}");
    let listed = with(&sandbox, &[], &["list", "--json"]);
    let json: Value = serde_json::from_str(&listed.stdout).unwrap();
    let row = |index: usize| (json[index]["name"].as_str(), json[index]["unreachable"].as_bool());
    assert_eq!((row(0), row(1)), ((Some("db"), Some(true)), (Some("web"), Some(false))), "{listed:?}");
    assert!(
        listed.code == 1 && listed.stderr.contains("/nowhere") && listed.stderr.contains("hint: "),
        "{listed:?}"
    );
    let text = with(&sandbox, &[], &["list"]).stdout;
    assert!(text.contains("no answer") && text.contains(gone), "{text}");
}

/// All are asked at once: two of them cost no more than one.
#[test]
fn libvirts_that_never_answer_cost_a_list_five_seconds() {
    let sandbox = Sandbox::new().with_web();
    let silent = sandbox.path("silent");
    // It ends when nobody speaks to it any more, as ssh does.
    sandbox.write("silent", "#!/bin/sh\nexec cat >/dev/null\n");
    fs::set_permissions(&silent, fs::Permissions::from_mode(0o755)).unwrap();
    for (machine, host) in [("db", "one"), ("mail", "two")] {
        let made = ["create", machine, "--no-build", "--no-keys"];
        assert_eq!(with(&sandbox, &[("NIXVM_CONNECT", "test:///default")], &made).code, 0);
        let uri = format!("qemu+ssh://{host}/system?command={}\n", silent.display());
        sandbox.write(&format!("machines/{machine}/connection"), uri);
    }
    let began = Instant::now();
    let listed = with(&sandbox, &[], &["list", "--json"]);
    let seconds = began.elapsed().as_secs_f64();
    assert!((5.0..9.0).contains(&seconds), "it took {seconds:.1} s: {listed:?}");
    let json: Value = serde_json::from_str(&listed.stdout).unwrap();
    let rows: Vec<_> =
        json.as_array().unwrap().iter().map(|row| (&row["name"], &row["unreachable"])).collect();
    assert_eq!(rows.len(), 3, "{listed:?}");
    assert!(rows.iter().all(|(name, unreachable)| (*name != "web") == (*unreachable == true)), "{listed:?}");
    for word in ["qemu+ssh://one/", "qemu+ssh://two/", "does not answer within 5 s", "waits longer"] {
        assert!(listed.code == 1 && listed.stderr.contains(word), "no `{word}` in {listed:?}");
    }
}

/// Promise 8: every verb, not only those that delete.
#[test]
fn promise_8_a_machine_of_another_workspace_is_only_looked_at() {
    let sandbox = Sandbox::new().with_web();
    let theirs = sandbox.path("../theirs");
    fs::create_dir_all(&theirs).unwrap();
    let theirs = theirs.canonicalize().unwrap().display().to_string();
    let uri = host(&sandbox, "shop", "0b5f0e4c-5a4b-4c7e-9f57-0d6f6f1f8a11", &theirs);
    // Its workspace exists, and contains the machine.
    fs::create_dir_all(format!("{theirs}/machines/shop")).unwrap();
    fs::write(format!("{theirs}/machines/shop/uuid"), "0b5f0e4c-5a4b-4c7e-9f57-0d6f6f1f8a11\n").unwrap();
    sandbox.write("machines/web/connection", &uri);
    let at = [("NIXVM_CONNECT", uri.as_str())];
    let run = |arguments: &[&str]| with(&sandbox, &at, arguments);
    for arguments in [
        &["start", "shop"][..],
        &["stop", "shop"],
        &["force-stop", "shop"],
        &["reboot", "shop"],
        &["ssh", "shop"],
        &["upgrade", "shop"],
        &["rollback", "shop"],
        &["diff", "shop"],
        &["generations", "shop", "--keep", "1"],
        &["set", "shop", "memory=1G"],
        &["recreate", "shop", "--yes"],
        &["snapshot", "shop"],
        &["restore-snapshot", "shop", "before", "--yes"],
        &["delete-snapshot", "shop", "before", "--yes"],
        &["backup", "shop"],
        &["export", "shop"],
        &["destroy", "shop", "--yes"],
        &["purge", "shop", "--yes"],
        &["rename", "shop", "store"],
        &["rename", "web", "shop"],
        &["clone", "shop", "store"],
        &["clone", "web", "shop"],
        &["console", "shop"],
        &["passwd", "shop", "--stdin"],
        &["network-config", "shop", "user"],
        &["create", "shop", "--no-keys"],
        &["logs", "shop", "-u", "sshd"],
    ] {
        let before = sandbox.snapshot();
        let ended = run(arguments);
        assert_eq!(ended.code, 1, "{arguments:?}: {ended:?}");
        let said = format!("the machine `shop` belongs to the workspace `{theirs}`; nothing was changed");
        let said = said.replace(&*sandbox.path("").to_string_lossy(), "WORKSPACE/");
        assert!(ended.stderr.contains(&said) && ended.stderr.contains("-C "), "{arguments:?}: {ended:?}");
        assert!(sandbox.snapshot() == before, "{arguments:?}");
    }
    for arguments in [&["status", "shop"][..], &["list"]] {
        let ended = run(arguments);
        assert!(ended.code == 0 && ended.stdout.contains("theirs"), "{arguments:?}: {ended:?}");
    }
    assert!(run(&["logs", "shop"]).stderr.contains("shop is a machine of the workspace"));

    // If that workspace no longer exists, no hint points there.
    fs::remove_dir_all(&theirs).unwrap();
    let gone = run(&["stop", "shop"]);
    assert!(gone.stderr.contains("that workspace is gone") && !gone.stderr.contains("-C "), "{gone:?}");
}

/// Returns a workspace with the hosts `big`, which answers, and `small`, which nobody is.
fn with_hosts() -> Sandbox {
    let sandbox = Sandbox::new();
    let arch = std::env::consts::ARCH;
    let hosts = format!(
        "# ours\nbig test:///default pool=fast bridge=br9 arch={arch}\nsmall qemu:///system?socket=/nowhere\n"
    );
    sandbox.write("hosts", hosts);
    sandbox
}

const ON_BIG: [&str; 7] = ["create", "web", "--no-build", "--no-keys", "--network=bridge", "--host", "big"];

/// Promise 12, of a host that has a name.
#[test]
fn a_machine_stays_on_the_host_that_it_was_made_for() {
    let sandbox = with_hosts();
    let created = with(&sandbox, &[], &ON_BIG);
    assert_eq!(created.code, 0, "{created:?}");
    let files = ["host", "pool", "network"].map(|file| read(&sandbox, file));
    assert_eq!(files, ["big\n", "fast\n", "bridge:br9\n"]);
    assert!(!sandbox.path("machines/web/connection").exists(), "two files say where it is");
    let status = with(&sandbox, &[], &["status", "web", "--json"]);
    let json: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(
        (json["host"].as_str(), json["pool"].as_str(), json["connection"].as_str()),
        (Some("big"), Some("fast"), Some("test:///default"))
    );
    assert!(with(&sandbox, &[], &["status", "web"]).stdout.contains("host:       big\n"));

    for arguments in
        [&["status", "web"][..], &["start", "web"], &["export", "web"], &["destroy", "web", "--yes"]]
    {
        let other = with(&sandbox, &[], &[arguments, &["--host", "small"]].concat());
        let words =
            ["at the libvirt `big (test:///default)`", "machines/web/host says", "--host says `small ("];
        refused(&other, 2, &words);
        let uri = with(&sandbox, &[("NIXVM_CONNECT", "qemu:///session")], arguments);
        refused(&uri, 2, &["NIXVM_CONNECT says `qemu:///session`"]);
        // By its name or by its URI: it is one libvirt.
        for same in [&["--host", "big"], &["--connect", "test:///default"]] {
            let ended = with(&sandbox, &[], &[&["status", "web"], &same[..]].concat());
            assert_eq!(ended.code, 0, "{ended:?}");
        }
    }
    refused(
        &with(&sandbox, &[], &["list", "--host", "big", "--connect", "qemu:///session"]),
        2,
        &["--host says `big (test:///default)`, and --connect says `qemu:///session`"],
    );
    refused(
        &with(&sandbox, &[], &["doctor", "--host", "bigg"]),
        2,
        &["no host `bigg`", "did you mean `big`?"],
    );

    // The pool of the file is for new machines.
    sandbox.write("hosts", "big test:///default pool=slow\n");
    assert!(with(&sandbox, &[], &["status", "web"]).stdout.contains("pool:       fast\n"));
    sandbox.write("hosts", "small test:///default\n");
    for arguments in [&["status", "web"][..], &["list"], &["destroy", "web", "--yes"]] {
        let words = ["`web` is on the host `big`", "no such host", "write a line `big URI` into `hosts`"];
        refused(&with(&sandbox, &[], arguments), 1, &words);
    }
    sandbox.write("hosts", "small test:///default\nbig\n");
    refused(&with(&sandbox, &[], &["status", "web"]), 1, &["hosts, line 2, is wrong", "where `big` is"]);
    sandbox.write("hosts", "big test:///default\n");
    sandbox.write("machines/web/connection", "test:///default\n");
    refused(
        &with(&sandbox, &[], &["status", "web"]),
        1,
        &["machines/web/host and machines/web/connection both"],
    );
}

#[test]
fn every_host_of_the_file_is_listed_and_one_that_does_not_answer_is_named() {
    let sandbox = with_hosts();
    assert_eq!(with(&sandbox, &[], &ON_BIG).code, 0);
    let listed = with(&sandbox, &[], &["list"]);
    assert_eq!(
        listed.stdout,
        "NAME  STATE     ADDRESS  PROFILE  GENERATION  POOL  HOST\nweb   declared  -        core     -           fast  big\n"
    );
    assert!(listed.code == 1 && listed.stderr.contains("/nowhere"), "{listed:?}");
    let one = with(&sandbox, &[], &["list", "--host", "big", "--json"]);
    let json: Value = serde_json::from_str(&one.stdout).unwrap();
    assert_eq!((one.code, json[0]["host"].as_str()), (0, Some("big")), "{one:?}");
    // Without such a file there is no such column.
    sandbox.write("hosts", "# none\n");
    fs::rename(sandbox.path("machines/web/host"), sandbox.path("machines/web/connection")).unwrap();
    sandbox.write("machines/web/connection", "test:///default\n");
    let listed = with(&sandbox, &[], &["list"]);
    assert!(listed.code == 0 && !listed.stdout.contains("HOST"), "{listed:?}");
}

#[test]
fn no_machine_is_made_for_a_host_that_nothing_here_builds_for() {
    let sandbox = Sandbox::new();
    let other = if cfg!(target_arch = "x86_64") { "aarch64" } else { "x86_64" };
    sandbox.write("hosts", format!("far test:///default arch={other}\n"));
    let refusal = with(&sandbox, &[], &["create", "web", "--no-keys", "--host", "far"]);
    refused(&refusal, 1, &["the host far (test:///default) is", other, "which is"]);
    assert!(!sandbox.path("machines/web").exists());
    let checks = with(&sandbox, &[], &["doctor", "--host", "far", "--json"]);
    let checks: Value = serde_json::from_str(&checks.stdout).unwrap();
    let arch = checks.as_array().unwrap().iter().find(|check| check["name"] == "architecture").unwrap();
    assert!(arch["health"] == "fault", "{arch}");
}
