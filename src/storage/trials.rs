//! Uploads tried on the real libvirt: `cargo test --lib storage:: -- --ignored --nocapture`.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Instant;

use virt::storage_vol::StorageVol;

use super::{Pool, Stored, data, identity};
use crate::error::Failure;
use crate::model::Size;

/// A pool of its own on the real libvirt, undefined when dropped.
struct Trial(Pool, tempfile::TempDir);

impl Trial {
    fn new(name: &str) -> Self {
        let connection = crate::libvirt::connect("qemu:///system").unwrap();
        let dir = tempfile::Builder::new().tempdir_in("/var/lib/libvirt/images").unwrap();
        let path = dir.path().join("pool");
        let xml = format!(
            "<pool type='dir'><name>{name}</name><target><path>{}</path></target></pool>",
            path.display()
        );
        Trial(Pool::ensure(&connection, name, &xml).unwrap(), dir)
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.1.path().join("pool").join(name)
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let _ = self.0.pool.destroy();
        let _ = self.0.pool.undefine();
    }
}

fn mostly_hole() -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(2 << 30).unwrap();
    for at in [0, 5000, 1 << 30, (2 << 30) - 7] {
        file.write_all_at(b"\x01 data", at).unwrap();
    }
    file
}

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
}
