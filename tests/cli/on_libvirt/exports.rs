//! Exports of a machine that is off, and of one that runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::machine::{Machine, NAME, run, virsh};

/// Killed between any two steps while the machine runs, it leaves nothing under the name of an export, and the next one clears up.
#[test]
#[ignore = "needs qemu:///system"]
fn an_export_that_is_killed_is_no_export_and_the_next_is_whole() {
    let machine = Machine::new();
    machine.ok(&["start", NAME]);
    machine.write(1);
    let exports = machine.sandbox.path("output/exports");
    let mut killed = 0;
    loop {
        let mut command = machine.sandbox.command(&["export", NAME]);
        command.env("NIXVM_CONNECT", "qemu:///system").env("NIXVM_DIE_AFTER", killed.to_string());
        let ended = command.output().unwrap();
        if ended.status.success() {
            break;
        }
        assert_eq!(ended.status.code(), None, "{ended:?}");
        let complete = exports.join(NAME).exists();
        // With its last step it is done, whatever is not written down any more.
        assert_eq!(complete, killed == 5, "killed after {killed} steps");
        if complete {
            fs::remove_dir_all(exports.join(NAME)).unwrap();
        }
        killed += 1;
    }
    assert_eq!(killed, 6, "five steps have six boundaries");
    let left: Vec<_> = fs::read_dir(&exports).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, [NAME], "a half export is left");
    assert!(!virsh(&["vol-list", "foreign-pool"]).contains("backup"), "the copy is left");
    let data = exports.join(NAME).join("data.qcow2").display().to_string();
    run("qemu-io", &["-r", "-f", "qcow2", "-c", "read -P 1 1M 64k", &data]);
}

#[test]
#[ignore = "needs qemu:///system"]
fn an_export_is_one_image_for_each_disk_and_replaces_nothing() {
    let machine = Machine::new();
    machine.ok(&["start", NAME]);
    machine.write(1);
    machine.write(2);
    let key = fs::read(machine.sandbox.path(&format!("machines/{NAME}/ssh_host_ed25519_key"))).unwrap();
    let outside = |name: &str| machine.sandbox.path(&format!("../{name}")).display().to_string();
    let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let exports = |format: &str, folder: &str, state: &str| {
        let said = machine.ok(&["export", NAME, "--format", format, "--output", folder, "--json"]);
        let said: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!((said["state"].as_str(), said["format"].as_str()), (Some(state), Some(format)), "{said}");
        let files: Vec<_> =
            said["disks"].as_array().unwrap().iter().map(|disk| disk["file"].as_str().unwrap()).collect();
        assert_eq!(files, [&format!("system.{format}"), &format!("data.{format}"), "identity.raw"]);
        for file in files {
            assert_eq!(mode(&format!("{folder}/{file}")), 0o600, "{file}");
        }
        assert_eq!((mode(folder), mode(&format!("{folder}/boot.sh"))), (0o700, 0o700));
        let data = format!("{folder}/data.{format}");
        for value in ["1", "2"] {
            run("qemu-io", &["-r", "-f", format, "-c", &format!("read -P {value} {value}M 64k"), &data]);
        }
        let info: Value = serde_json::from_str(&run("qemu-img", &["info", "--output=json", &data])).unwrap();
        assert_eq!((&info["virtual-size"], info.get("backing-filename")), (&Value::from(1 << 30), None));
        let identity = fs::read(format!("{folder}/identity.raw")).unwrap();
        assert!(identity.windows(key.len()).any(|bytes| bytes == key), "the host key is missing");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 4);
    };
    exports("qcow2", &outside("running"), "running");
    let volumes = virsh(&["vol-list", "foreign-pool"]);
    assert!(!volumes.contains("backup"), "the copy was left: {volumes}");
    machine.ok(&["force-stop", NAME]);
    exports("raw", &outside("off"), "off");

    // What is there stays, even where it is empty.
    fs::create_dir(outside("mine")).unwrap();
    for folder in [outside("off"), outside("mine")] {
        machine
            .refused(&["export", NAME, "--output", &folder], &["there is something at", "hint: delete it"]);
    }
    // A build would copy it to the Nix store.
    machine.refused(&["export", NAME, "--output", "images"], &["which every local user can read", "output/"]);
    machine.ok(&["export", NAME, "--output", "output/mine"]);
}
