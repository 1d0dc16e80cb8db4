//! Reading files that people wrote.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::owner::hinted;
use crate::error::{Explain, Failure, Result};

/// Opens a file for reading. Opening a FIFO does not wait for somebody to write into it: look at the file's type before reading.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::NONBLOCK)
}

/// As [`open`], and fails where the path is a link.
pub fn open_itself(path: &Path) -> io::Result<File> {
    open_with(path, OFlags::NONBLOCK | OFlags::NOFOLLOW)
}

fn open_with(path: &Path, flags: OFlags) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Returns `None` for a file or folder that does not exist.
pub fn existing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Largest file that is read into memory, in bytes; what people write by hand stays far below.
const LARGEST: u64 = 1 << 20;

/// Returns the text of a file, `None` if there is none.
///
/// Refuses anything but a regular UTF-8 file of 1 MiB at most.
pub fn read(path: &Path) -> Result<Option<String>> {
    let shown = path.display();
    let cannot = || Failure::user(format!("cannot read {shown}"));
    let file = match existing(open(path)) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(None),
        Err(error) => return Err(hinted(cannot(), path, &error).because(error).into()),
    };
    let metadata = file.metadata().explain(cannot)?;
    if !metadata.is_file() {
        return Err(Failure::user(format!("{shown} is not a regular file")).into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(LARGEST)).unwrap_or_default() + 1);
    file.take(LARGEST + 1).read_to_end(&mut bytes).explain(cannot)?;
    if bytes.len() as u64 > LARGEST {
        return Err(
            Failure::user(format!("{shown} has more than 1 MiB, so it is probably the wrong file")).into()
        );
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|b| *b == b'\n').count();
        Failure::user(format!("{shown}, line {line}, is not UTF-8 text"))
            .hint("save the file as UTF-8, without binary data")
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_no_text_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("value");
        fs::write(&path, b"one\ntwo \xff\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().ends_with("value, line 2, is not UTF-8 text"));
        fs::write(&path, vec![b'x'; (1 << 20) + 1]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("more than 1 MiB"));
        assert!(read(dir.path()).unwrap_err().to_string().ends_with("is not a regular file"));
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(read(&fifo).unwrap_err().to_string().ends_with("is not a regular file"));
    }
}
