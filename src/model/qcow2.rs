//! The header of a qcow2 file (QEMU's docs/interop/qcow2.txt), read and changed as bytes.
//!
//! The only change made here is to the backing file. An increment of a backup holds only what changed and names no other
//! file; once restored, it is backed by the layer that the backup before it became. And a layer whose QEMU died in a merge
//! is put back onto its former backing file. The name goes into the first cluster behind the header extensions, where the
//! format lets nobody else store anything.

use std::ops::Range;

use crate::error::{Failure, Result};

/// Bytes that [`standalone_size`] and [`check_keeps_its_data`] need: up to the end of the incompatible features.
pub const STANDALONE: usize = 80;

/// The header extension with the backing file's format; without it QEMU would guess, and libvirt refuses to let it.
const BACKING_FORMAT: u32 = 0xE279_2ACA;

/// The header extension that only names the features that QEMU knows.
const FEATURE_NAMES: u32 = 0x6803_F857;

/// The bit of the incompatible features that says the data is in another file.
const EXTERNAL_DATA: u64 = 1 << 2;

/// Bytes of a header of version 3 without optional fields.
const SHORTEST: usize = 104;

/// Bytes of the largest cluster that QEMU reads.
const LARGEST_CLUSTER: usize = 2 << 20;

/// The format allows 1023 bytes for the backing file's name.
const LONGEST_NAME: usize = 1023;

/// Rewrites a qcow2 header without a backing file so that its backing file becomes the qcow2 file `on` in the same folder.
///
/// `head` must hold every header extension.
///
/// # Errors
/// It is no such header, or `head` has no room.
pub fn set_backing(head: &mut [u8], on: &str) -> Result<()> {
    let bug = || anyhow::Error::from(Failure::bug("cannot write a backing file into a qcow2 header"));
    let alone = is_version_3(head) && head.get(8..20) == Some(&[0; 12]);
    let (end, kinds) = extensions(head).filter(|_| alone && on.len() <= LONGEST_NAME).ok_or_else(bug)?;
    if kinds.contains(&BACKING_FORMAT) {
        return Err(bug());
    }
    let mut tail = Vec::new();
    tail.extend(BACKING_FORMAT.to_be_bytes());
    tail.extend(5_u32.to_be_bytes());
    // Padded to 8 bytes, and then the mark that ends the extensions.
    tail.extend(b"qcow2\0\0\0");
    tail.extend([0; 8]);
    put(head, end, &tail).and_then(|()| put_name(head, end + tail.len(), on)).ok_or_else(bug)
}

/// Rewrites a qcow2 header that has a backing file so that the qcow2 file `on` in the same folder takes its place.
///
/// # Errors
/// It is no such header, or `head` has no room.
pub fn change_backing(head: &mut [u8], on: &str) -> Result<()> {
    let bug = || anyhow::Error::from(Failure::bug("cannot change the backing file in a qcow2 header"));
    let known = extensions(head).is_some_and(|(_, kinds)| kinds.contains(&BACKING_FORMAT));
    let named = is_version_3(head) && known && on.len() <= LONGEST_NAME;
    // Behind the old name, which stays whole if only half of this is written.
    let end = backing_range(head).filter(|_| named).ok_or_else(bug)?.end;
    put_name(head, end, on).ok_or_else(bug)
}

fn put_name(head: &mut [u8], at: usize, name: &str) -> Option<()> {
    put(head, at, name.as_bytes())?;
    let length = u32::try_from(name.len()).ok()?;
    put(head, 8, &[(at as u64).to_be_bytes().as_slice(), &length.to_be_bytes()].concat())
}

/// Writes to the file's first cluster; `None` where there is no room.
fn put(head: &mut [u8], at: usize, bytes: &[u8]) -> Option<()> {
    let cluster = number(head, 20).and_then(|bits| 1_usize.checked_shl(bits))?;
    let end = at.checked_add(bytes.len()).filter(|&end| end <= cluster)?;
    head.get_mut(at..end)?.copy_from_slice(bytes);
    Some(())
}

/// Returns the size in bytes of the disk in a qcow2 file; `None` where it is no such file.
pub fn virtual_size(head: &[u8]) -> Option<u64> {
    if is_qcow2(head) { long_number(head, 24) } else { None }
}

/// Returns the size in bytes of the disk in a qcow2 file that refers to no other file.
///
/// A file that does is refused. Restored, it would show its guest whatever file of the host it names; and an archive of it
/// would not hold the machine's data.
///
/// # Errors
/// It is no qcow2 file of version 2 or 3, or refers to another file.
pub fn standalone_size(head: &[u8]) -> Result<u64> {
    check_keeps_its_data(head)?;
    if long_number(head, 8) != Some(0) {
        return Err(Failure::user("the data is a qcow2 file that lies over another file").into());
    }
    virtual_size(head).ok_or_else(|| Failure::bug("the size is not in a qcow2 header").into())
}

/// Checks that this is a qcow2 file of version 2 or 3 which keeps its data in no other file; it may lie over one.
pub fn check_keeps_its_data(head: &[u8]) -> Result<()> {
    let version = number(head, 4);
    if head.len() < STANDALONE || !is_qcow2(head) || !matches!(version, Some(2 | 3)) {
        return Err(Failure::user("the data is not a qcow2 file of version 2 or 3").into());
    }
    if version == Some(3) && long_number(head, 72).is_none_or(|features| features & EXTERNAL_DATA != 0) {
        return Err(Failure::user("the data is a qcow2 file that keeps its data in another file").into());
    }
    Ok(())
}

/// Returns the backing file as the header names it; `None` where there is none, or this is no qcow2 file. `head` must reach
/// to [`backing_end`].
pub fn backing(head: &[u8]) -> Option<String> {
    let range = backing_range(head)?;
    Some(String::from_utf8_lossy(head.get(range)?).into_owned())
}

/// Returns how many of the file's first bytes hold the backing file's name.
pub fn backing_end(head: &[u8]) -> Option<usize> {
    backing_range(head).map(|range| range.end)
}

fn backing_range(head: &[u8]) -> Option<Range<usize>> {
    let at = usize::try_from(long_number(head, 8)?).ok().filter(|&at| at > 0)?;
    let length =
        usize::try_from(number(head, 16)?).ok().filter(|length| (1..=LONGEST_NAME).contains(length))?;
    let in_cluster = at.checked_add(length).is_some_and(|end| end <= LARGEST_CLUSTER);
    (is_qcow2(head) && in_cluster).then(|| at..at + length)
}

/// Returns whether the file holds a disk and nothing else: no other file belongs to it, it was closed in order, and it has
/// no bitmap of a checkpoint, no snapshot and no key.
///
/// Extensions unknown to nixvm count as something else.
pub fn is_plain(head: &[u8]) -> bool {
    // Backing file, kind of encryption, number of snapshots, incompatible and autoclear features.
    let empty = [8..20, 32..36, 60..64, 72..80, 88..96];
    is_version_3(head)
        && empty.into_iter().all(|field| head.get(field).is_some_and(|bytes| bytes.iter().all(|&b| b == 0)))
        && extensions(head).is_some_and(|(_, kinds)| kinds.iter().all(|&kind| kind == FEATURE_NAMES))
}

/// Returns where the mark that ends the header extensions is, and their kinds; `None` if the mark is not in `head`.
fn extensions(head: &[u8]) -> Option<(usize, Vec<u32>)> {
    let mut at = usize::try_from(number(head, 100)?).ok().filter(|length| *length >= SHORTEST)?;
    let mut kinds = Vec::new();
    loop {
        match number(head, at)? {
            0 => return Some((at, kinds)),
            kind => kinds.push(kind),
        }
        at += 8 + usize::try_from(number(head, at + 4)?).ok()?.checked_next_multiple_of(8)?;
    }
}

fn is_qcow2(head: &[u8]) -> bool {
    head.starts_with(b"QFI\xfb")
}

fn is_version_3(head: &[u8]) -> bool {
    is_qcow2(head) && number(head, 4) == Some(3)
}

fn number(head: &[u8], at: usize) -> Option<u32> {
    head.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn long_number(head: &[u8], at: usize) -> Option<u64> {
    head.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::process::Command;

    fn run(folder: &Path, command: &str) -> String {
        let mut words = command.split(' ');
        let ran = Command::new(words.next().unwrap()).args(words).current_dir(folder).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.success() && !said.contains("failed"), "{command}: {ran:?}");
        said
    }

    #[test]
    fn an_increment_lies_on_what_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let run = |command: &str| run(dir.path(), command);
        run("qemu-img create -q -f qcow2 below 1G");
        run("qemu-img create -q -f qcow2 above 2G");
        for (file, value) in [("below", "1 0 1M"), ("above", "2 512k 64k"), ("above", "3 1500M 64k")] {
            run_io(dir.path(), file, &format!("write -P {value}"));
        }
        // What the guest discarded or overwrote with zeros must not show what is below.
        run_io(dir.path(), "above", "write -z 256k 64k");
        let mut head = fs::read(dir.path().join("above")).unwrap()[..4096].to_vec();
        set_backing(&mut head, "below").unwrap();
        OpenOptions::new()
            .write(true)
            .open(dir.path().join("above"))
            .unwrap()
            .write_all_at(&head, 0)
            .unwrap();
        let info: serde_json::Value =
            serde_json::from_str(&run("qemu-img info --output=json above")).unwrap();
        assert_eq!(info["backing-filename"], "below");
        assert_eq!(info["backing-filename-format"], "qcow2");
        for holds in ["1 0 256k", "0 256k 64k", "2 512k 64k", "1 576k 448k", "0 1M 1M", "3 1500M 64k"] {
            run_io(dir.path(), "above", &format!("read -P {holds}"));
        }
        run("qemu-img check -q above");
        assert!(set_backing(&mut head, "below").is_err(), "it lies on one already");
    }

    #[test]
    fn a_layer_is_moved_onto_another() {
        let dir = tempfile::tempdir().unwrap();
        let run = |command: &str| run(dir.path(), command);
        run("qemu-img create -q -f qcow2 base 1G");
        run("qemu-img create -q -f qcow2 -F qcow2 -b base the-layer-between 1G");
        run("qemu-img create -q -f qcow2 -F qcow2 -b the-layer-between top 1G");
        for (file, value) in [("base", "1 0 1M"), ("the-layer-between", "2 0 64k"), ("top", "3 64k 64k")] {
            run_io(dir.path(), file, &format!("write -P {value}"));
        }
        // With what QEMU keeps there for a checkpoint.
        run("qemu-img bitmap --add top since");
        run("qemu-img rebase -u -F qcow2 -b base top");
        run_io(dir.path(), "top", "read -P 1 0 64k");
        let path = dir.path().join("top");
        for on in ["the-layer-between", "base", "the-layer-between"] {
            let mut head = fs::read(&path).unwrap()[..4096].to_vec();
            change_backing(&mut head, on).unwrap();
            OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&head, 0).unwrap();
            let info: serde_json::Value =
                serde_json::from_str(&run("qemu-img info --output=json top")).unwrap();
            assert_eq!(info["backing-filename"], on);
            assert_eq!(info["backing-filename-format"], "qcow2");
            assert_eq!(info["format-specific"]["data"]["bitmaps"][0]["name"], "since");
        }
        for holds in ["2 0 64k", "3 64k 64k", "1 128k 896k"] {
            run_io(dir.path(), "top", &format!("read -P {holds}"));
        }
        run("qemu-img check -q top");
        let alone = fs::read(dir.path().join("base")).unwrap()[..4096].to_vec();
        for mut head in [alone, Vec::new(), vec![0; 4096], fs::read(&path).unwrap()[..300].to_vec()] {
            let before = head.clone();
            assert!(change_backing(&mut head, "base").is_err());
            assert_eq!(head, before);
        }
        assert!(change_backing(&mut fs::read(&path).unwrap(), &"x".repeat(1024)).is_err());
    }

    fn run_io(folder: &Path, file: &str, command: &str) {
        let ran =
            Command::new("qemu-io").current_dir(folder).args(["-f", "qcow2", "-c", command, file]).output();
        let ran = ran.unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && !said.contains("failed"), "{command}: {ran:?}");
    }

    #[test]
    fn a_file_with_more_than_a_disk_in_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let run = |command: &str| run(dir.path(), command);
        let plain = || is_plain(&fs::read(dir.path().join("disk")).unwrap()[..4096]);
        run("qemu-img create -q -f qcow2 disk 1G");
        run_io(dir.path(), "disk", "write -P 1 0 1M");
        assert!(plain());
        for (make, undo) in [
            ("qemu-img bitmap --add disk since", "qemu-img bitmap --remove disk since"),
            ("qemu-img snapshot -q -c one disk", "qemu-img snapshot -q -d one disk"),
            (
                "qemu-img create -q -f qcow2 -b /dev/null -F raw disk 1G",
                "qemu-img create -q -f qcow2 disk 1G",
            ),
            ("qemu-img create -q -f qcow2 -o compat=0.10 disk 1G", "qemu-img create -q -f qcow2 disk 1G"),
            ("qemu-img create -q -f qcow2 -o data_file=d disk 1G", "qemu-img create -q -f qcow2 disk 1G"),
        ] {
            run(make);
            assert!(!plain(), "{make}");
            run(undo);
            assert!(plain(), "{undo}");
        }
        // A QEMU that counts lazily was killed.
        let disk = OpenOptions::new().write(true).open(dir.path().join("disk")).unwrap();
        disk.write_all_at(&[1], 79).unwrap();
        assert!(!plain());
        assert!(!is_plain(b"") && !is_plain(&[0; 4096]));
    }

    #[test]
    fn what_is_no_such_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), "qemu-img create -q -f qcow2 -o compat=0.10 old 1G");
        run(dir.path(), "qemu-img create -q -f qcow2 new 1G");
        let old = fs::read(dir.path().join("old")).unwrap();
        let new = fs::read(dir.path().join("new")).unwrap();
        let endless = {
            let mut head = new.clone();
            head[100..104].copy_from_slice(&u32::MAX.to_be_bytes());
            head
        };
        for head in [Vec::new(), vec![0; 4096], old[..4096].to_vec(), new[..300].to_vec(), endless] {
            let mut after = head.clone();
            assert!(set_backing(&mut after, "below").is_err());
            assert_eq!(after, head);
        }
        assert!(set_backing(&mut new.clone(), &"x".repeat(1024)).is_err());
    }

    #[test]
    fn the_size_is_that_of_qemu_img() {
        let dir = tempfile::tempdir().unwrap();
        let create = |arguments: &[&str]| {
            let mut command = Command::new("qemu-img");
            assert!(
                command
                    .current_dir(&dir)
                    .args(["create", "-q", "-f", "qcow2"])
                    .args(arguments)
                    .status()
                    .unwrap()
                    .success()
            );
            standalone_size(
                &std::fs::read(dir.path().join(arguments[arguments.len() - 2])).unwrap()[..STANDALONE],
            )
        };
        assert_eq!(create(&["v3", "3G"]).unwrap(), 3 << 30);
        assert_eq!(create(&["-o", "compat=0.10", "v2", "5G"]).unwrap(), 5 << 30);
        let error = create(&["-b", "v3", "-F", "qcow2", "over", "3G"]).unwrap_err().to_string();
        assert_eq!(error, "the data is a qcow2 file that lies over another file");
        let error = create(&["-o", "data_file=raw", "split", "3G"]).unwrap_err().to_string();
        assert_eq!(error, "the data is a qcow2 file that keeps its data in another file");
    }

    #[test]
    fn nothing_else_is_taken_for_qcow2() {
        let mut good = vec![0; STANDALONE];
        good[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        good[24..32].copy_from_slice(&(1_u64 << 30).to_be_bytes());
        assert_eq!(standalone_size(&good).unwrap(), 1 << 30);
        let change = |at: usize, to: u8| {
            let mut head = good.clone();
            head[at] = to;
            head
        };
        for bad in [change(0, b'q'), change(7, 1), change(7, 4), good[..STANDALONE - 1].to_vec(), Vec::new()]
        {
            let error = standalone_size(&bad).unwrap_err().to_string();
            assert_eq!(error, "the data is not a qcow2 file of version 2 or 3");
        }
    }
}
