//! A new data disk: a qcow2 file with an empty ext4 for `/var`.
//!
//! The host formats it, never the guest: a guest that formats disks which look
//! empty could one day be wrong about that.

use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Explain, Failure, Result};
use crate::exec::Command;
use crate::model::Size;

/// The label of the file system by which the guest finds its `/var`.
pub const LABEL: &str = "nixvm-var";

/// Bytes of a block; on small disks mkfs would choose less.
const BLOCK: u64 = 4096;

/// Returns a temporary file in `dir` with the formatted disk: a qcow2 file of that capacity, a few hundred KiB long.
pub fn format(capacity: Size, dir: &Path) -> Result<NamedTempFile> {
    let say = || Failure::user(format!("cannot make a data disk in `{}`", dir.display()));
    let raw = NamedTempFile::new_in(dir).explain(say)?;
    raw.as_file().set_len(capacity.bytes()).explain(say)?;
    let disk = NamedTempFile::new_in(dir).explain(say)?;
    mkfs(raw.path(), capacity).output().explain(say)?;
    to_qcow2(raw.path(), disk.path()).output().explain(say)?;
    Ok(disk)
}

fn mkfs(raw: &Path, capacity: Size) -> Command {
    Command::new("mkfs.ext4")
        .args(["-q", "-F", "-L", LABEL, "-b"])
        .arg(BLOCK.to_string())
        .arg("-E")
        .arg(extended_options(capacity))
        .arg(raw)
        .missing("install e2fsprogs (`nixvm doctor` says how)")
}

/// Returns extended options of mke2fs(8) that keep a new disk below 2 MiB, and the guest from filling it with zeros.
fn extended_options(capacity: Size) -> String {
    // By `discard` mkfs finds out that the file reads as zeros: neither mkfs nor the guest's kernel then writes zeros into the
    // tables. `packed_meta_blocks` keeps the rest together, so that it takes few clusters of qcow2.
    let mut options = "discard,lazy_journal_init=1,packed_meta_blocks=1".to_owned();
    // Room to grow by 1,000 times, the default, costs 4 MiB. The kernel can grow a mounted file system even beyond this
    // limit, by meta_bg (ext4(5)).
    let blocks = (capacity.bytes() / BLOCK).saturating_mul(16);
    if blocks <= u64::from(u32::MAX) {
        options += &format!(",resize={blocks}");
    }
    options
}

fn to_qcow2(raw: &Path, disk: &Path) -> Command {
    Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .args([raw, disk])
        .missing("install qemu-img (`nixvm doctor` says how)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_formatted_whole_and_small() {
        let dir = tempfile::tempdir().unwrap();
        for (capacity, most) in [(64 << 20, 1 << 20), (20 << 30, 2 << 20)] {
            let disk = format(Size::from_bytes(capacity), dir.path()).unwrap();
            let info = |args: &[&str]| Command::new("qemu-img").args(args).arg(disk.path()).output().unwrap();
            let json: serde_json::Value = serde_json::from_slice(&info(&["info", "--output=json"])).unwrap();
            assert_eq!((&json["format"], json["virtual-size"].as_u64()), (&"qcow2".into(), Some(capacity)));
            assert!(json["actual-size"].as_u64().unwrap() < most, "{json}");

            let raw = NamedTempFile::new_in(dir.path()).unwrap();
            let back = ["convert", "-f", "qcow2", "-O", "raw"].map(std::ffi::OsStr::new);
            Command::new("qemu-img").args(back).args([disk.path(), raw.path()]).output().unwrap();
            Command::new("e2fsck").args(["-f", "-n"]).arg(raw.path()).output().unwrap();
            let label = Command::new("e2label").arg(raw.path()).output().unwrap();
            assert_eq!(String::from_utf8(label).unwrap().trim(), LABEL);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing else is left");
    }

    #[test]
    fn room_to_grow_is_what_ext4_can_number() {
        assert!(extended_options(Size::from_bytes(20 << 30)).ends_with(",resize=83886080"));
        assert!(!extended_options(Size::from_bytes(2 << 40)).contains("resize"));
    }
}
