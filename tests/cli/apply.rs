//! What is due of machines, as `apply --dry-run` tells it. Its execution needs disks, which the test driver does not have.

use std::fs;

use serde_json::{Value, json};

use crate::builds;
use crate::sandbox::{Ended, Sandbox};

/// Runs the program with Nix, which builds what is due, at the libvirt that the machines' files name.
fn apply(sandbox: &Sandbox, arguments: &[&str]) -> Ended {
    let mut command = sandbox.command(&[&["apply"], arguments].concat());
    sandbox.ended(command.env("PATH", std::env::var("PATH").unwrap()).env_remove("NIXVM_CONNECT"))
}

#[test]
fn what_is_due_is_told_and_nothing_is_done() {
    let sandbox = builds::workspace();
    // A domain of this workspace whose folder is gone, at the libvirt of a machine that is still to be made.
    let node = sandbox.home().join("node.xml");
    let workspace = sandbox.path("").canonicalize().unwrap();
    let domain = format!(
        "<node><domain type='test'><name>old</name><uuid>0b5f0e4c-5a4b-4c7e-9f57-0d6f6f1f8a11</uuid>\
         <metadata><nixvm:machine xmlns:nixvm='urn:nixvm:domain:1' name='old' workspace='{}' volumes='old' generation='1'>\
         <nixvm:generation number='1' profile='core' digest='{}' base='b' made='1' health='untried' nixpkgs='n' kernel='6'/>\
         </nixvm:machine></metadata><memory>8192</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain></node>",
        workspace.display(),
        "d".repeat(64)
    );
    fs::write(&node, domain).unwrap();
    sandbox.write("machines/db/connection", format!("test://{}\n", node.display()));
    sandbox.write("machines/web/autostart", "yes\n");

    // A first build locks the flake's inputs, whichever command it is of.
    apply(&sandbox, &["--dry-run"]);
    let before = sandbox.snapshot();
    let told = apply(&sandbox, &["--dry-run"]);
    assert_eq!(told.code, 5, "{told:?}");
    assert_eq!(told.stdout, "MACHINE  CHANGES\ndb       create\nweb      create; start\n", "{told:?}");
    assert!(
        told.stderr
            .contains("note: old has a domain and no folder machines/old any more; `nixvm --connect test://"),
        "{told:?}"
    );
    let json = apply(&sandbox, &["web", "--dry-run", "--json"]);
    let due: Value = serde_json::from_str(&json.stdout).unwrap();
    let actions = json!([{ "action": "create" }, { "action": "start" }]);
    assert_eq!((json.code, due), (5, json!([{ "machine": "web", "actions": actions }])), "{json:?}");
    assert!(!json.stderr.contains("old"), "nobody asked for all: {json:?}");

    assert!(sandbox.snapshot() == before, "a plan changed the workspace");

    // One that cannot be looked at hides no other.
    sandbox.write("machines/web/memory", "4Q\n");
    let some = apply(&sandbox, &["--dry-run"]);
    assert_eq!(some.code, 1, "{some:?}");
    assert!(some.stdout.contains("db       create\nweb      failed: "), "{some:?}");
    assert!(some.stderr.contains("1 of 2 machines failed"), "{some:?}");
    sandbox.write("machines/web/after", "nobody\n");
    let unknown = apply(&sandbox, &[]);
    assert!(unknown.code == 1 && unknown.stderr.contains("machines/web/after, line 1"), "{unknown:?}");
}
