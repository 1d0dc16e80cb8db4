//! Pools tried on the real libvirt: `cargo test --lib storage:: -- --ignored --nocapture`.

mod busy;
mod chains;
mod condemned;
mod reading;
mod uploads;

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::Pool;

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

    fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.file(name)).unwrap().mode() & 0o777
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.1.path().join("pool").join(name)
    }

    fn make(&self, name: &str, on: Option<&str>) {
        match on {
            Some(on) => self.0.overlay(name, on).unwrap(),
            None => self.0.blank(name, 1 << 30).unwrap(),
        };
    }

    fn qemu_io(&self, name: &str, command: &str) {
        run("qemu-io", &["-f", "qcow2", "-c", command], &self.file(name));
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

fn run(program: &str, arguments: &[&str], file: &std::path::Path) -> String {
    let ran = std::process::Command::new(program).args(arguments).arg(file).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success() && !said.contains("failed"), "{program} {arguments:?}: {ran:?}");
    said
}

/// Returns the beginning of a qcow2 file on `below` with a disk of 4 EiB.
fn header(below: &str) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"QFI\xfb\0\0\0\x03");
    put(8, &512_u64.to_be_bytes());
    put(16, &u32::try_from(below.len()).unwrap().to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &(1_u64 << 62).to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    put(512, below.as_bytes());
    bytes
}
