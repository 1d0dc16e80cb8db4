//! How a file becomes a whole volume.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use virt::storage_vol::StorageVol;

use super::super::{Pool, Stored, data, identity};
use super::{Trial, mostly_hole, run};
use crate::error::{Failure, Report};
use crate::model::Size;

#[test]
#[ignore = "needs qemu:///system"]
fn a_sparse_file_arrives_byte_for_byte_and_sparse() {
    let trial = Trial::new("nixvm-t-sparse");
    let source = mostly_hole();
    let start = Instant::now();
    let mut calls = 0;
    let stored = trial
        .0
        .put("a.qcow2", &source, &mut |_| {
            calls += 1;
            Ok(())
        })
        .unwrap();
    println!("2 GiB of holes stored in {:?}, {calls} steps", start.elapsed());
    assert_eq!(stored, Stored::Uploaded);
    let there = File::open(trial.file("a.qcow2")).unwrap();
    assert_eq!(there.metadata().unwrap().len(), 2 << 30);
    assert!(there.metadata().unwrap().blocks() * 512 < 4 << 20);
    assert_eq!(there.metadata().unwrap().mode() & 0o777, 0o600);
    let mut bytes = [0; 6];
    for at in [0, 5000, 1 << 30] {
        there.read_exact_at(&mut bytes, at).unwrap();
        assert_eq!(&bytes, b"\x01 data");
    }
    assert_eq!(trial.0.volumes().unwrap(), ["a.qcow2"]);
    assert_eq!(trial.0.put("a.qcow2", &source, &mut |_| Ok(())).unwrap(), Stored::Present);
    let start = Instant::now();
    trial.0.put_bytes("small.img", &[7; 5000]).unwrap();
    println!("5000 bytes stored in {:?}", start.elapsed());
    let disk = data::format(Size::from_bytes(20 << 30), trial.1.path()).unwrap();
    let start = Instant::now();
    trial.0.put("data.qcow2", disk.as_file(), &mut |_| Ok(())).unwrap();
    println!("a data disk stored in {:?}: {:?}", start.elapsed(), trial.0.usage("data.qcow2").unwrap());
    let image = identity::image(&[("key", b"abc")]).unwrap();
    trial.0.put_bytes("id.img", &image).unwrap();
    println!("an identity image: {:?}", trial.0.usage("id.img").unwrap());
    assert_eq!(std::fs::read(trial.file("small.img")).unwrap(), [7; 5000]);
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_refused_upload_leaves_nothing_and_a_partial_volume_is_made_anew() {
    let trial = Trial::new("nixvm-t-partial");
    let refused = trial.0.put("a.qcow2", &mostly_hole(), &mut |p| {
        if p.done > 1 << 20 { Err(Failure::user("interrupted").into()) } else { Ok(()) }
    });
    assert!(refused.is_err());
    assert!(trial.0.volumes().unwrap().is_empty());

    // What a writer leaves that dies between the second step and the third.
    StorageVol::create_xml(
        &trial.0.pool,
        "<volume><name>a.qcow2</name><capacity>1048576</capacity><allocation>0</allocation></volume>",
        0,
    )
    .unwrap();
    assert!(!trial.0.is_whole("a.qcow2").unwrap());
    assert_eq!(trial.0.put("a.qcow2", &mostly_hole(), &mut |_| Ok(())).unwrap(), Stored::Uploaded);
    assert!(trial.0.is_whole("a.qcow2").unwrap());

    // A file that somebody removed by hand, and libvirt does not know it.
    std::fs::remove_file(trial.file("a.qcow2")).unwrap();
    assert!(!trial.0.has("a.qcow2").unwrap());
    trial.0.put_bytes("a.qcow2", &[7; 5000]).unwrap();
    std::fs::remove_file(trial.file("a.qcow2")).unwrap();
    assert!(!trial.0.is_whole("a.qcow2").unwrap());
    assert_eq!(trial.0.put_bytes("a.qcow2", &[8; 5000]).unwrap(), Stored::Uploaded);
    // And one that somebody put there.
    std::fs::write(trial.file("b.img"), "by hand").unwrap();
    assert_eq!(trial.0.volume_path("b.img").unwrap(), trial.file("b.img").display().to_string());
}

/// A power cut takes what was written and not synced: of a volume that was just made, at most its first 4 KiB.
///
/// What is only in memory has no place on the disk yet: ext4, XFS and btrfs choose one when they write (filefrag(8), `delalloc`).
#[test]
#[ignore = "needs qemu:///system, as root"]
fn what_makes_a_data_volume_whole_is_on_the_disk_when_it_counts() {
    let trial = Trial::new("nixvm-t-sync");
    let disk = data::format(Size::from_bytes(1 << 30), trial.1.path()).unwrap();
    let put = |name: &str| {
        let start = Instant::now();
        trial.0.put(name, disk.as_file(), &mut |_| Ok(())).unwrap();
        println!("{name} stored in {:?}", start.elapsed());
        run("filefrag", &["-v"], &trial.file(name))
    };
    // What can be made again is not synced, and shows what this would miss.
    assert!(put("w.boot-1.qcow2").contains("delalloc"));
    assert!(!put("w.data-1.qcow2").contains("delalloc"));
    assert!(trial.0.is_whole("w.data-1.qcow2").unwrap());
    let name = trial.file("w.data-1.qcow2").display().to_string();
    run("qemu-img", &["compare", "-f", "qcow2", "-F", "qcow2", &name], disk.path());
}

/// libvirt copies for as long as a volume is large, and cannot be told to end it. Played by this same test in another process.
#[test]
#[ignore = "needs qemu:///system"]
fn whoever_asks_to_stop_does_not_wait_for_libvirts_copy() {
    const NAME: &str = "storage::trials::uploads::whoever_asks_to_stop_does_not_wait_for_libvirts_copy";
    const POOL: &str = "NIXVM_TRIAL_POOL";
    if let Ok(name) = std::env::var(POOL) {
        signal_hook::flag::register(signal_hook::consts::SIGTERM, crate::interrupt::flag()).unwrap();
        let connection = crate::libvirt::connect("qemu:///system").unwrap();
        let pool = Pool::find(&connection, &name).unwrap().unwrap();
        let source = tempfile::tempfile().unwrap();
        source.set_len(6 << 30).unwrap();
        source.write_all_at(b"head", 0).unwrap();
        let report = Report::of(&pool.put("a.qcow2", &source, &mut |_| Ok(())).unwrap_err());
        assert_eq!(report.exit_code, 130, "{report:?}");
        return;
    }
    let trial = Trial::new("nixvm-t-copy");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", NAME])
        .env(POOL, "nixvm-t-copy")
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while trial.0.volume("a.qcow2").unwrap().is_none() {
        assert!(Instant::now() < until, "libvirt copies nothing");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(300));
    let asked = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    println!("ended after {:?}", asked.elapsed());
    assert!(trial.0.delete_raw("a.qcow2").is_err(), "libvirt has copied it already: this shows nothing");
    assert!(asked.elapsed() < Duration::from_secs(2));
    // What is left is waited for by whoever clears it away.
    trial.0.clear("a.qcow2").unwrap();
    assert_eq!(trial.0.volumes().unwrap(), [""; 0]);
}
