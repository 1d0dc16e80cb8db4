//! What the header of a qcow2 file says, and the one change that is made to it here: what the file lies on.
//!
//! An increment of a backup holds only what changed, and names no other file. Restored, it lies on the layer
//! that the backup before it became. And a layer that QEMU died over lies again on what it lay on. The name goes into the
//! first cluster behind the header's extensions, where the format lets nobody else store anything (QEMU's
//! docs/interop/qcow2.txt, "Header extensions").

use crate::error::{Failure, Result};

/// The extension with the format of the file below; without it QEMU would guess, and libvirt refuses to let it.
const BACKING_FORMAT: u32 = 0xE279_2ACA;

/// The extension that only names the features that QEMU knows.
const FEATURE_NAMES: u32 = 0x6803_F857;

/// Bytes of a header of version 3 without optional fields.
const SHORTEST: usize = 104;

/// Bytes of the largest cluster that QEMU reads.
const LARGEST_CLUSTER: usize = 2 << 20;

/// Makes the qcow2 file that begins with `head`, on no other and without a format below, lie on the qcow2 file `on` beside it.
///
/// `head` has the file's first bytes, and every extension of its header; what is changed is in there.
///
/// # Errors
/// It is no such file, or `head` has no room.
pub(super) fn lay_on(head: &mut [u8], on: &str) -> Result<()> {
    let bug = || anyhow::Error::from(Failure::bug("cannot write into a qcow2 file's header what it lies on"));
    let whole =
        head.starts_with(b"QFI\xfb") && number(head, 4) == Some(3) && head.get(8..20) == Some(&[0; 12]);
    let (end, kinds) = extensions(head).filter(|_| whole && on.len() < 1024).ok_or_else(bug)?;
    if kinds.contains(&BACKING_FORMAT) {
        return Err(bug());
    }
    let mut tail = Vec::new();
    tail.extend(BACKING_FORMAT.to_be_bytes());
    tail.extend(5_u32.to_be_bytes());
    // Filled up to 8 bytes, and then the mark that ends the extensions.
    tail.extend(b"qcow2\0\0\0");
    tail.extend([0; 8]);
    put(head, end, &tail).and_then(|()| name_below(head, end + tail.len(), on)).ok_or_else(bug)
}

/// Makes the qcow2 file that begins with `head`, on one other, lie on the qcow2 file `on` beside it.
///
/// # Errors
/// It is no such file, or `head` has no room.
pub(super) fn lay_on_another(head: &mut [u8], on: &str) -> Result<()> {
    let bug = || anyhow::Error::from(Failure::bug("cannot change in a qcow2 file's header what it lies on"));
    let lies = head.starts_with(b"QFI\xfb") && number(head, 4) == Some(3) && number(head, 8) == Some(0);
    let (at, length) =
        number(head, 12).zip(number(head, 16)).filter(|&(at, _)| lies && at > 0).ok_or_else(bug)?;
    let known = extensions(head).is_some_and(|(_, kinds)| kinds.contains(&BACKING_FORMAT));
    // Behind the old name: half of a write would leave that one whole.
    let end = usize::try_from(u64::from(at) + u64::from(length))?;
    Some(()).filter(|()| known && on.len() < 1024).and_then(|()| name_below(head, end, on)).ok_or_else(bug)
}

/// Writes the name of the file below to `at`, and where it is.
fn name_below(head: &mut [u8], at: usize, on: &str) -> Option<()> {
    put(head, at, on.as_bytes())?;
    let fields =
        [(at as u64).to_be_bytes().as_slice(), &u32::try_from(on.len()).ok()?.to_be_bytes()].concat();
    put(head, 8, &fields)
}

/// Writes to the file's first cluster; `None` where there is no room.
fn put(head: &mut [u8], at: usize, bytes: &[u8]) -> Option<()> {
    let cluster = number(head, 20).and_then(|bits| 1_usize.checked_shl(bits))?;
    let end = at.checked_add(bytes.len()).filter(|&end| end <= cluster)?;
    head.get_mut(at..end)?.copy_from_slice(bytes);
    Some(())
}

/// Returns the bytes that a guest sees of the qcow2 file that begins with `head`; `None` where it is none.
pub(super) fn capacity(head: &[u8]) -> Option<u64> {
    let size = head.starts_with(b"QFI\xfb").then(|| head.get(24..32))??;
    Some(u64::from_be_bytes(size.try_into().ok()?))
}

/// Returns the name of what the qcow2 file that begins with `head` lies on, as it stands there; `None` where it stands alone,
/// or is no such file. `head` reaches to [`end_of_name`].
pub(super) fn below(head: &[u8]) -> Option<String> {
    let range = name_of_below(head)?;
    Some(String::from_utf8_lossy(head.get(range)?).into_owned())
}

/// Returns how many of the file's first bytes hold that name.
pub(super) fn end_of_name(head: &[u8]) -> Option<usize> {
    name_of_below(head).map(|range| range.end)
}

/// The format has the name in the file's first cluster, and lets it have 1023 bytes.
fn name_of_below(head: &[u8]) -> Option<std::ops::Range<usize>> {
    let [high, at, length] = [8, 12, 16].map(|field| number(head, field));
    let at = usize::try_from(at.filter(|&at| at > 0 && high == Some(0))?).ok()?;
    let length = usize::try_from(length?).ok().filter(|length| (1..1024).contains(length))?;
    let in_cluster = at.checked_add(length).is_some_and(|end| end <= LARGEST_CLUSTER);
    (head.starts_with(b"QFI\xfb") && in_cluster).then(|| at..at + length)
}

/// Returns whether the qcow2 file that begins with `head` holds a disk and nothing else: it is on no other file and has none
/// beside it, it was closed in order, and no bitmap of a checkpoint, snapshot or key is in it.
///
/// What is not known here counts as something else.
pub(super) fn is_plain(head: &[u8]) -> bool {
    // Backing file, kind of encryption, number of snapshots, incompatible and autoclear features.
    let empty = [8..20, 32..36, 60..64, 72..80, 88..96];
    head.starts_with(b"QFI\xfb")
        && number(head, 4) == Some(3)
        && empty.into_iter().all(|field| head.get(field).is_some_and(|bytes| bytes.iter().all(|&b| b == 0)))
        && extensions(head).is_some_and(|(_, kinds)| kinds.iter().all(|&kind| kind == FEATURE_NAMES))
}

/// Returns where the mark is that ends the header's extensions, and of which kinds they are; `None` if the end is not there.
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

/// Returns the big-endian number of 4 bytes at `at`.
fn number(head: &[u8], at: usize) -> Option<u32> {
    let bytes = head.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
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
        lay_on(&mut head, "below").unwrap();
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
        assert!(lay_on(&mut head, "below").is_err(), "it lies on one already");
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
            lay_on_another(&mut head, on).unwrap();
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
            assert!(lay_on_another(&mut head, "base").is_err());
            assert_eq!(head, before);
        }
        assert!(lay_on_another(&mut fs::read(&path).unwrap(), &"x".repeat(1024)).is_err());
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
            assert!(lay_on(&mut after, "below").is_err());
            assert_eq!(after, head);
        }
        assert!(lay_on(&mut new.clone(), &"x".repeat(1024)).is_err());
    }
}
