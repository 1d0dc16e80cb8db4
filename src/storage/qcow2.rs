//! What the header of a qcow2 file says, and the one change that is made to it here: what the file lies on.
//!
//! An increment of a backup holds only what changed, and names no other file. Restored, it lies on the layer
//! that the backup before it became. The name goes into the first cluster behind the header's extensions, where the format
//! lets nobody else store anything (QEMU's docs/interop/qcow2.txt, "Header extensions").

use crate::error::{Failure, Result};

/// The extension with the format of the file below; without it QEMU would guess, and libvirt refuses to let it.
const BACKING_FORMAT: u32 = 0xE279_2ACA;

/// The extension that only names the features that QEMU knows.
const FEATURE_NAMES: u32 = 0x6803_F857;

/// Bytes of a header of version 3 without optional fields.
const SHORTEST: usize = 104;

/// Makes the qcow2 file that begins with `head`, on no other and without a format below, lie on the qcow2 file `on` beside it.
///
/// `head` has the file's first bytes, and every extension of its header; what is changed is in there.
///
/// # Errors
/// It is no such file, or `head` has no room.
pub(super) fn lay_on(head: &mut [u8], on: &str) -> Result<()> {
    let bug = || Failure::bug("cannot write into the header of a qcow2 file what it lies on");
    let whole =
        head.starts_with(b"QFI\xfb") && number(head, 4) == Some(3) && head.get(8..20) == Some(&[0; 12]);
    let (end, kinds) = extensions(head).filter(|_| whole && on.len() < 1024).ok_or_else(bug)?;
    if kinds.contains(&BACKING_FORMAT) {
        return Err(bug().into());
    }
    let mut tail = Vec::new();
    tail.extend(BACKING_FORMAT.to_be_bytes());
    tail.extend(5_u32.to_be_bytes());
    // Filled up to 8 bytes, and then the mark that ends the extensions.
    tail.extend(b"qcow2\0\0\0");
    tail.extend([0; 8]);
    let name = end + tail.len();
    tail.extend(on.as_bytes());
    let cluster = number(head, 20).and_then(|bits| 1_usize.checked_shl(bits)).unwrap_or_default();
    let place =
        head.get_mut(end..end + tail.len()).filter(|_| end + tail.len() <= cluster).ok_or_else(bug)?;
    place.copy_from_slice(&tail);
    let fields = [(name as u64).to_be_bytes().as_slice(), &u32::try_from(on.len())?.to_be_bytes()].concat();
    head.get_mut(8..20).ok_or_else(bug)?.copy_from_slice(&fields);
    Ok(())
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
