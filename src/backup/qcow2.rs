//! What the first bytes of a qcow2 file say (QEMU's docs/interop/qcow2.txt).

use crate::error::{Failure, Result};

/// Bytes of a header that are looked at: up to the end of its incompatible features.
pub(super) const HEAD: usize = 80;

/// The bit of `incompatible_features` that says the data is in another file.
const EXTERNAL_DATA: u64 = 1 << 2;

/// Returns the size in bytes of the disk in a qcow2 file that begins with `head` and stands alone.
///
/// A file that names others is refused. Restored, it would show its guest whatever file of the host it names; and an
/// archive of it would not hold the machine's data.
///
/// # Errors
/// It is no qcow2 file of version 2 or 3, or names another file.
pub(super) fn virtual_size(head: &[u8]) -> Result<u64> {
    let version = number(head, 4, 4);
    if head.len() < HEAD || !head.starts_with(b"QFI\xfb") || !matches!(version, Some(2 | 3)) {
        return Err(Failure::user("the data is not a qcow2 file of version 2 or 3").into());
    }
    if number(head, 8, 8) != Some(0) {
        return Err(Failure::user("the data is a qcow2 file that lies over another file").into());
    }
    if version == Some(3) && number(head, 72, 8).is_none_or(|features| features & EXTERNAL_DATA != 0) {
        return Err(Failure::user("the data is a qcow2 file that keeps its data in another file").into());
    }
    number(head, 24, 8).ok_or_else(|| Failure::bug("the size is not in a qcow2 header").into())
}

/// Returns the big-endian number of `length` bytes at `at`.
fn number(head: &[u8], at: usize, length: usize) -> Option<u64> {
    head.get(at..at + length).map(|bytes| bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::sample;
    use std::process::Command;

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
            virtual_size(&std::fs::read(dir.path().join(arguments[arguments.len() - 2])).unwrap()[..HEAD])
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
        let good = sample::qcow2(1 << 30, HEAD);
        assert_eq!(virtual_size(&good).unwrap(), 1 << 30);
        let change = |at: usize, to: u8| {
            let mut head = good.clone();
            head[at] = to;
            head
        };
        for bad in [change(0, b'q'), change(7, 1), change(7, 4), good[..HEAD - 1].to_vec(), Vec::new()] {
            let error = virtual_size(&bad).unwrap_err().to_string();
            assert_eq!(error, "the data is not a qcow2 file of version 2 or 3");
        }
    }
}
