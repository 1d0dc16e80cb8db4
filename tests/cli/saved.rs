//! A machine whose memory is on disk: no command changes it, unless the user resumes or discards the memory.

use crate::sandbox::{Ended, Sandbox};

/// Returns a libvirt where the machine `web` of the sandbox is saved.
fn libvirt(sandbox: &Sandbox) -> String {
    let workspace = sandbox.path("").canonicalize().unwrap();
    let uuid = std::fs::read_to_string(sandbox.path("machines/web/uuid")).unwrap();
    let xml = format!(
        "<node><domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'><name>web</name><uuid>{}</uuid>\
         <memory>131072</memory><metadata><n:machine xmlns:n='urn:nixvm:domain:1' name='web' workspace='{}' volumes='web' \
         generation='1'><n:generation number='1' profile='core' digest='d' base='b' made='1' health='healthy' nixpkgs='n' \
         kernel='k'/><n:snapshot name='old' taken='1' layer='1' nvram='no' generation='1' consistent='yes'/></n:machine>\
         </metadata><test:runstate>5</test:runstate><test:hasmanagedsave>1</test:hasmanagedsave><os><type>hvm</type></os></domain></node>",
        uuid.trim(),
        workspace.display()
    );
    sandbox.write("../saved.xml", xml);
    let uri = format!("test://{}", sandbox.path("../saved.xml").canonicalize().unwrap().display());
    sandbox.write("machines/web/connection", format!("{uri}\n"));
    uri
}

fn at(sandbox: &Sandbox, uri: &str, arguments: &[&str]) -> Ended {
    let mut command = sandbox.command(arguments);
    command.env("NIXVM_CONNECT", uri);
    sandbox.ended(&mut command)
}

#[test]
fn promise_15_a_saved_machine_is_shown_so_and_changed_by_nothing() {
    let sandbox = Sandbox::new().with_web();
    let uri = libvirt(&sandbox);
    let run = |arguments: &[&str]| at(&sandbox, &uri, arguments);
    let state = |shown: &Ended, list: bool| -> String {
        let json: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
        let machine = if list { &json[0] } else { &json };
        machine["state"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(state(&run(&["list", "--json"]), true), "saved");
    assert_eq!(state(&run(&["status", "web", "--json"]), false), "saved");
    assert!(run(&["status", "web"]).stdout.contains("saved"));
    let stopped = run(&["stop", "web"]);
    assert!(stopped.code == 0 && stopped.stderr.contains("resumes it from its memory"), "{stopped:?}");

    for arguments in [
        &["upgrade", "web"][..],
        &["rollback", "web"],
        &["recreate", "web", "--yes"],
        &["rename", "web", "shop"],
        &["clone", "web", "shop"],
        &["set", "web", "memory=1G"],
        &["network-config", "web", "user"],
        &["passwd", "web", "--stdin"],
        &["snapshot", "web"],
        &["restore-snapshot", "web", "old", "--yes"],
        &["delete-snapshot", "web", "old", "--yes"],
        &["backup", "web"],
        &["export", "web"],
        &["backup", "web", "--incremental"],
        &["reboot", "web"],
    ] {
        let before = sandbox.snapshot();
        let refused = run(arguments);
        assert_eq!(refused.code, 1, "{arguments:?}: {refused:?}");
        for word in ["error: web is saved", "nixvm start web", "`--discard-saved`"] {
            assert!(refused.stderr.contains(word), "{arguments:?}: no `{word}` in {refused:?}");
        }
        assert!(sandbox.snapshot() == before, "{arguments:?} changed a file");
    }
    let off = run(&["force-stop", "web", "--discard-saved"]);
    assert!(
        off.code == 0 && off.stderr.contains("was discarded") && !off.stderr.contains("saved: its next"),
        "{off:?}"
    );
}
