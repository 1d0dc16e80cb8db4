//! A machine whose disks another tool has changed: every command notices before it acts, and changes nothing.

use crate::sandbox::{Ended, Sandbox};

/// Every verb that changes a machine or copies its data.
const VERBS: [&[&str]; 17] = [
    &["start", "web"],
    &["reboot", "web"],
    &["upgrade", "web"],
    &["rollback", "web"],
    &["recreate", "web", "--yes"],
    &["rename", "web", "shop"],
    &["clone", "web", "shop"],
    &["set", "web", "memory=1G"],
    &["network-config", "web", "user"],
    &["passwd", "web", "--stdin"],
    &["snapshot", "web"],
    &["restore-snapshot", "web", "old", "--yes"],
    &["delete-snapshot", "web", "other", "--yes"],
    &["backup", "web"],
    &["export", "web"],
    &["backup", "web", "--incremental"],
    &["generations", "web", "--keep", "1"],
];

/// The disks of the machine: each by the path of its image.
struct Disks<'a> {
    boot: &'a str,
    data: &'a str,
    identity: &'a str,
}

/// A machine as nixvm leaves it, with two snapshots.
const WHOLE: Disks<'static> = Disks {
    boot: "/nixvm-t/pool/web.boot-1.qcow2",
    data: "/nixvm-t/pool/web.data-3.qcow2",
    identity: "/nixvm-t/pool/web.identity.img",
};

/// Returns a libvirt where the machine `web` of the sandbox has these disks, in the state with this number.
fn libvirt(sandbox: &Sandbox, disks: &Disks<'_>, state: u32) -> String {
    let workspace = sandbox.path("").canonicalize().unwrap();
    let uuid = std::fs::read_to_string(sandbox.path("machines/web/uuid")).unwrap();
    let disk = |file: &str, target: &str, serial: &str| {
        format!(
            "<disk type='file' device='disk'><source file='{file}'/><target dev='{target}' bus='virtio'/>\
             <serial>nixvm-{serial}</serial></disk>"
        )
    };
    let snapshot = |name: &str, layer: u32| {
        format!(
            "<n:snapshot name='{name}' taken='1' layer='{layer}' nvram='no' generation='1' consistent='yes'/>"
        )
    };
    let xml = format!(
        "<node><domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'><name>web</name><uuid>{}</uuid>\
         <memory>131072</memory><metadata><n:machine xmlns:n='urn:nixvm:domain:1' name='web' workspace='{}' volumes='web' \
         generation='1'><n:generation number='1' profile='core' digest='d' base='b' made='1' health='healthy' nixpkgs='n' \
         kernel='k'/>{}{}</n:machine></metadata><test:runstate>{state}</test:runstate><os><type>hvm</type></os>\
         <devices>{}{}{}</devices></domain>\
         <pool type='dir'><name>nixvm</name><target><path>/nixvm-t/pool</path></target></pool></node>",
        uuid.trim(),
        workspace.display(),
        snapshot("other", 1),
        snapshot("old", 2),
        disk(disks.boot, "vda", "boot"),
        disk(disks.data, "vdb", "data"),
        disk(disks.identity, "vdc", "identity"),
    );
    sandbox.write("../foreign.xml", xml);
    let uri = format!("test://{}", sandbox.path("../foreign.xml").canonicalize().unwrap().display());
    sandbox.write("machines/web/connection", format!("{uri}\n"));
    uri
}

fn at(sandbox: &Sandbox, uri: &str, arguments: &[&str]) -> Ended {
    let mut command = sandbox.command(arguments);
    command.env("NIXVM_CONNECT", uri);
    sandbox.ended(&mut command)
}

fn refused(sandbox: &Sandbox, uri: &str, verbs: &[&[&str]], words: &[&str]) {
    for arguments in verbs {
        let before = sandbox.snapshot();
        let refused = at(sandbox, uri, arguments);
        assert_eq!(refused.code, 1, "{arguments:?}: {refused:?}");
        for word in words {
            assert!(refused.stderr.contains(word), "{arguments:?}: no `{word}` in {refused:?}");
        }
        assert!(sandbox.snapshot() == before, "{arguments:?} changed a file");
    }
}

#[test]
fn promise_15_no_command_overruns_what_another_tools_snapshot_has_a_machine_write_to() {
    let sandbox = Sandbox::new().with_web();
    for (disks, target, image) in [
        (Disks { data: "/nixvm-t/pool/web.data-3.s", ..WHOLE }, "vdb", "/nixvm-t/pool/web.data-3.s"),
        (Disks { data: "/elsewhere/web.data-3.s", ..WHOLE }, "vdb", "/elsewhere/web.data-3.s"),
        // Named like a volume of the machine, but another file, or another machine's volume.
        (Disks { data: "/elsewhere/web.data-3.qcow2", ..WHOLE }, "vdb", "/elsewhere/web.data-3.qcow2"),
        (
            Disks { data: "/nixvm-t/pool/shop.data-3.qcow2", ..WHOLE },
            "vdb",
            "/nixvm-t/pool/shop.data-3.qcow2",
        ),
        (Disks { boot: "/nixvm-t/pool/web.boot-1.s", ..WHOLE }, "vda", "/nixvm-t/pool/web.boot-1.s"),
        (Disks { identity: "/nixvm-t/pool/web.identity.s", ..WHOLE }, "vdc", "/nixvm-t/pool/web.identity.s"),
    ] {
        for state in [5, 1] {
            let uri = libvirt(&sandbox, &disks, state);
            let error = format!(
                "error: the disk {target} of web is `{image}`, which is not nixvm's; nothing was changed"
            );
            refused(&sandbox, &uri, &VERBS, &[&error, "--shallow", "edit web"]);
            refused(&sandbox, &uri, &[&["snapshots", "web"]], &[&error]);
            let status = at(&sandbox, &uri, &["status", "web", "--json"]);
            let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
            assert_eq!(status["foreign_images"], serde_json::json!([image]));
        }
    }
}

#[test]
fn promise_15_a_machine_that_writes_to_what_a_snapshot_keeps_is_not_changed() {
    let sandbox = Sandbox::new().with_web();
    let disks = Disks { data: "/nixvm-t/pool/web.data-2.qcow2", ..WHOLE };
    let uri = libvirt(&sandbox, &disks, 5);
    let words =
        ["writes to `web.data-2.qcow2`, which its snapshot old keeps", "`nixvm delete-snapshot web old`"];
    refused(&sandbox, &uri, &VERBS, &words);
    // The command that the hint names is not refused.
    let way_out = at(&sandbox, &uri, &["delete-snapshot", "web", "old", "--yes"]);
    assert!(!way_out.stderr.contains("which its snapshot"), "{way_out:?}");
}
