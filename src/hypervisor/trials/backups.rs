//! Backups and checkpoints.

use std::time::Instant;

use super::{Trial, info, run, silent};
use crate::error::{Failure, Report};
use crate::hypervisor::BackupRequest;
use crate::model::Size;
use crate::model::domain::DomainState;

#[test]
#[ignore = "needs qemu:///system"]
fn backups_show_one_instant_and_increments_the_changes() {
    let trial = Trial::new("h-hv-backup");
    let owned = trial.own();
    owned.start().unwrap();
    trial.write(1, "0", "200M");
    let full = trial.blank("full", "1G");
    let request = BackupRequest { path: &full, since: None, checkpoint: Some("one") };
    let start = Instant::now();
    let mut steps = Vec::new();
    let stood = owned
        .backup_data(request, &mut |progress| {
            if steps.is_empty() {
                trial.write(2, "0", "100M");
            }
            steps.push(progress);
            Ok(())
        })
        .unwrap();
    println!("200 MiB copied in {:?}, stood {stood:?}, {steps:?}", start.elapsed());
    trial.holds("full", 1, "0", "200M");
    println!("{}", run("ls", &["-l", &full]));
    assert_eq!(owned.checkpoints().unwrap(), ["one"]);

    trial.write(3, "300M", "64k");
    // The first 100 MiB were written during the copy.
    assert_eq!(owned.changed_since("one").unwrap(), (100 << 20) + (64 << 10));
    assert!(owned.changed_since("none").is_err());
    let more = trial.blank("more", "1G");
    let since = BackupRequest { path: &more, since: Some("one"), checkpoint: Some("two") };
    owned.backup_data(since, &mut silent).unwrap();
    println!("increment: {}", info(&more));
    trial.holds("more", 3, "300M", "64k");
    assert_eq!(owned.checkpoints().unwrap(), ["one", "two"]);

    let stopped = BackupRequest { path: &trial.blank("no", "1G"), since: None, checkpoint: None };
    assert!(owned.backup_data(stopped, &mut |_| Err(Failure::user("enough").into())).is_err());
    assert!(!owned.end_backup().unwrap());
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_checkpoint_outlives_all_but_a_crash() {
    let trial = Trial::new("h-hv-points");
    let owned = trial.own();
    let copy = |file: &str, size: &str, since: Option<&str>, checkpoint: Option<&str>| {
        let path = trial.blank(file, size);
        owned.backup_data(BackupRequest { path: &path, since, checkpoint }, &mut silent)
    };
    let mebibytes = |file: &str| {
        let map = run("qemu-img", &["map", "-U", "--output=json", &trial.path(file)]);
        let map: Vec<serde_json::Value> = serde_json::from_str(&map).unwrap();
        let data = map.iter().filter(|part| part["data"] == true);
        data.map(|part| part["length"].as_u64().unwrap()).sum::<u64>() >> 20
    };
    owned.start().unwrap();
    trial.write(1, "0", "1M");
    copy("full", "1G", None, Some("one")).unwrap();
    trial.write(2, "1M", "1M");
    owned.switch_data(&trial.overlay("data-1", "data"), false).unwrap();
    trial.write(3, "2M", "1M");
    copy("a", "1G", Some("one"), None).unwrap();
    assert_eq!(mebibytes("a"), 2, "over a switch");

    owned.force_off().unwrap();
    assert_eq!(owned.checkpoints().unwrap(), ["one"]);
    owned.start().unwrap();
    trial.write(4, "3M", "1M");
    copy("b", "1G", Some("one"), Some("two")).unwrap();
    assert_eq!(mebibytes("b"), 3, "over a stop");

    owned.commit_data(&trial.path("data"), &trial.path("data-1"), &mut silent).unwrap();
    trial.write(5, "4M", "1M");
    copy("c", "1G", Some("one"), None).unwrap();
    copy("d", "1G", Some("two"), None).unwrap();
    // Since the second, only the last has changed; QEMU may take the merge for changes too.
    println!("over a merge: {} MiB since one, {} MiB since two", mebibytes("c"), mebibytes("d"));
    trial.holds("c", 5, "4M", "1M");
    trial.holds("d", 5, "4M", "1M");

    owned.grow_data(Size::from_bytes(2 << 30)).unwrap();
    trial.write(6, "1500M", "1M");
    copy("e", "2G", Some("two"), None).unwrap();
    trial.holds("e", 6, "1500M", "1M");

    owned.force_off().unwrap();
    trial.define();
    assert_eq!(owned.checkpoints().unwrap(), ["one", "two"]);
    assert!(owned.delete_checkpoint("one").is_err(), "it is off");
    owned.start().unwrap();
    copy("f", "2G", Some("one"), None).unwrap();

    // QEMU is killed, as by a power cut: it had its notes in memory.
    let pid = std::fs::read_to_string(format!("/run/libvirt/qemu/{}.pid", trial.name)).unwrap();
    run("kill", &["-9", pid.trim()]);
    super::wait_until(&owned, |state| !state.is_active());
    owned.start().unwrap();
    assert!(copy("g", "2G", Some("two"), None).is_err());
    copy("h", "2G", None, Some("three")).unwrap();
    assert!(owned.delete_checkpoint("one").unwrap());
    assert!(!owned.delete_checkpoint("one").unwrap());
    assert!(owned.delete_checkpoint("two").unwrap());
    copy("i", "2G", Some("three"), None).unwrap();
    assert_eq!(owned.checkpoints().unwrap(), ["three"]);

    // Somebody removed the notes of a machine that was off.
    owned.force_off().unwrap();
    run("qemu-img", &["bitmap", "--remove", &trial.path("data"), "three"]);
    owned.start().unwrap();
    assert!(copy("j", "2G", Some("three"), None).is_err());
    copy("k", "2G", None, Some("four")).unwrap();
    assert!(owned.delete_checkpoint("three").unwrap());
    copy("l", "2G", Some("four"), None).unwrap();
    assert_eq!(owned.checkpoints().unwrap(), ["four"]);
}

#[test]
#[ignore = "needs qemu:///system and mounts a file system"]
fn a_copy_that_does_not_fit_is_an_error_and_the_guest_goes_on() {
    let trial = Trial::new("h-hv-full");
    let small = trial.path("small");
    std::fs::create_dir(&small).unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=8m,mode=711", "tmpfs", &small]);
    let owned = trial.own();
    owned.start().unwrap();
    trial.write(1, "0", "64M");
    let path = trial.blank("small/full", "1G");
    let request = BackupRequest { path: &path, since: None, checkpoint: None };
    let failed = Report::of(&owned.backup_data(request, &mut silent).unwrap_err());
    println!("{failed:?}");
    assert_eq!(failed.causes, ["QEMU could not write the copy"]);
    assert_eq!(owned.state().unwrap(), DomainState::Running);
    assert!(!owned.end_backup().unwrap());
    let path = trial.blank("fits", "1G");
    owned.backup_data(BackupRequest { path: &path, ..request }, &mut silent).unwrap();
    owned.force_off().unwrap();
    run("umount", &[&small]);
}
