//! What a guest with an agent notices.

use std::time::{Duration, Instant};

use super::{run, silent};
use crate::hypervisor::{BackupRequest, DATA, Hypervisor};
use crate::libvirt;

/// A guest that runs: `NIXVM_TRIAL_MACHINE=NAME`. Its data disk goes on in an overlay and back.
#[test]
#[ignore = "needs a running machine of nixvm's, named by NIXVM_TRIAL_MACHINE"]
fn a_guest_with_an_agent_stands_still_for_a_moment() {
    let name = std::env::var("NIXVM_TRIAL_MACHINE").unwrap();
    let hypervisor = Hypervisor::open("qemu:///system").unwrap();
    let owned = hypervisor.own(&name.parse().unwrap()).unwrap();
    let shell = |script: &str| owned.agent_run(&["/bin/sh", "-c", script], Duration::from_secs(60)).unwrap();
    assert!(owned.agent_answers());
    let output = shell("echo out; echo err >&2; exit 7");
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (7, "out\n", "err\n"));
    assert_eq!(shell("kill -9 $$").code, 137);
    assert!(owned.agent_run(&["/no/such/program"], Duration::from_secs(5)).is_err());
    let start = Instant::now();
    assert!(owned.agent_run(&["/bin/sh", "-c", "sleep 20"], Duration::from_secs(2)).is_err());
    assert!(start.elapsed() < Duration::from_secs(10));

    assert_eq!(owned.is_frozen(), Some(false));
    let frozen = owned.freeze().unwrap();
    assert_eq!(owned.is_frozen(), Some(true));
    println!("frozen for {:?}", frozen.thaw().unwrap().unwrap());
    drop(owned.freeze().unwrap());
    assert_eq!(owned.is_frozen(), Some(false));
    assert!(!owned.thaw().unwrap());

    // A writer that says when it wrote; the longest gap is what the guest notices.
    let writer = |act: &mut dyn FnMut()| {
        shell(
            "bash -c 'end=$((EPOCHSECONDS + 10)); while ((EPOCHSECONDS < end)); do echo $EPOCHREALTIME; done' >/var/trial 2>&1 &",
        );
        std::thread::sleep(Duration::from_secs(3));
        act();
        std::thread::sleep(Duration::from_secs(9));
        let gap = "{ if (l && $1 - l > g) g = $1 - l; l = $1 } END { print NR, \"writes, longest gap\", int(g * 1000), \"ms\" }";
        println!("{}", shell(&format!("awk '{gap}' /var/trial; rm /var/trial")).stdout.trim());
    };
    writer(&mut || println!("nothing done"));

    let data = owned.disks().unwrap().volume(DATA).unwrap().to_owned();
    let path = run("virsh", &["-q", "domblklist", &name]);
    let path = path.lines().find_map(|line| line.split_whitespace().last().filter(|_| line.contains("vdb")));
    let base = match path {
        Some(path) if path.starts_with('/') => path.to_owned(),
        _ => format!("/var/lib/libvirt/images/{}/{data}", std::env::var("NIXVM_POOL").unwrap()),
    };
    let top = format!("{base}.trial");
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-u", "-b", &data, "-F", "qcow2", &top, "4G"]);
    writer(&mut || println!("switched with quiesce in {:?}", owned.switch_data(&top, true).unwrap()));
    writer(&mut || println!("merged: {:?}", owned.commit_data(&base, &top, &mut silent).unwrap()));
    std::fs::remove_file(&top).unwrap();
    let copy = format!("{base}.copy");
    run("qemu-img", &["create", "-q", "-f", "qcow2", &copy, "4G"]);
    let request = BackupRequest { path: &copy, since: None, checkpoint: None };
    writer(&mut || {
        let start = Instant::now();
        let stood = owned.backup_data(request, &mut silent).unwrap();
        println!("copied in {:?}, stood {stood:?}", start.elapsed());
    });
    std::fs::remove_file(&copy).unwrap();
}

#[test]
#[ignore = "needs a running machine of nixvm's, named by NIXVM_TRIAL_MACHINE"]
fn a_guest_that_nobody_thaws_thaws_itself() {
    let hypervisor = Hypervisor::open("qemu:///system").unwrap();
    let owned = hypervisor.own(&std::env::var("NIXVM_TRIAL_MACHINE").unwrap().parse().unwrap()).unwrap();
    // As if the process had been killed: nothing is dropped.
    std::mem::forget(owned.freeze().unwrap());
    std::thread::sleep(Duration::from_secs(70));
    // The agent believes that it is frozen until it is told to thaw, and then finds nothing to.
    assert_eq!(libvirt::thaw(&owned.domain).unwrap(), 0, "it was still frozen");
    owned
        .agent_run(&["/bin/sh", "-c", "echo > /var/thawed; rm /var/thawed"], Duration::from_secs(5))
        .unwrap();
}
