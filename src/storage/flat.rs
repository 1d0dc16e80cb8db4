//! A disk of the pool as one image on this computer.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::{Piece, Pool};
use crate::error::{Explain, Result};
use crate::exec::Command;
use crate::file;
use crate::model::{Progress, qcow2};

/// The format of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Qcow2,
    Raw,
}

impl Format {
    /// Returns QEMU's name of the format, which is also how a file of it ends.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Qcow2 => "qcow2",
            Format::Raw => "raw",
        }
    }
}

impl Pool {
    /// Writes the disk in the volume, with all that it lies on, into the new file `to`, which only its owner can read.
    ///
    /// The volumes come through libvirt, so that a pool on another host is the same as one here. They lie beside `to` until
    /// they are one, in a folder that only this process's user may enter.
    pub fn flatten(
        &self,
        volume: &str,
        (to, format): (&Path, Format),
        progress: &mut dyn FnMut(Progress) -> Result<()>,
    ) -> Result<()> {
        let say = || self.cannot("make one image of", volume);
        let chain = self.chain(volume)?;
        let parts = tempfile::tempdir_in(to.parent().unwrap_or(Path::new("."))).explain(say)?;
        let total = chain.iter().map(|link| link.allocation).sum::<u64>();
        let mut before = 0;
        for (level, link) in chain.iter().enumerate() {
            let part = parts.path().join(level.to_string());
            self.fetch(&link.volume, &part, &mut |done| {
                progress(Progress { done: (before + done).min(total), total })
            })?;
            before += link.allocation;
        }
        // Closed from the start: `qemu-img` keeps the mode of a file that is there.
        file::create(to, "")?;
        join(chain.len(), parts.path(), (to, format)).explain(say)
    }

    /// Copies a volume's file, holes and all, to a new file of this computer.
    fn fetch(&self, volume: &str, to: &Path, progress: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
        let say = || self.cannot("copy", volume);
        let mut copy = File::create_new(to).explain(say)?;
        let mut data = 0;
        let length = self.read_from(volume, 0, &mut |piece| {
            match piece {
                Piece::Data(bytes) => {
                    copy.write_all(bytes)?;
                    data += bytes.len() as u64;
                }
                Piece::Hole(length) => {
                    copy.seek(SeekFrom::Current(i64::try_from(length)?))?;
                }
            }
            progress(data)
        })?;
        copy.set_len(length).explain(say)
    }
}

/// Makes one image of the qcow2 files `0`, which lies on `1`, and so on, in the folder.
fn join(levels: usize, folder: &Path, (to, format): (&Path, Format)) -> Result<()> {
    for level in 0..levels {
        let mut head = Vec::new();
        let file = File::open(folder.join(level.to_string()))?;
        file.take(qcow2::STANDALONE as u64).read_to_end(&mut head)?;
        // They come from another host: none of them may have `qemu-img` read a file of this one.
        qcow2::check_keeps_its_data(&head)?;
    }
    convert(levels, format).arg(to).current_dir(folder).output()?;
    Ok(File::open(to)?.sync_all()?)
}

/// Returns the command but for the target. What lies on what is said here, whatever the files' headers say.
fn convert(levels: usize, format: Format) -> Command {
    let chain = (0..levels).rev().fold(Value::Null, |below, level| {
        json!({
            "driver": "qcow2",
            "file": { "driver": "file", "filename": level.to_string() },
            "backing": below,
        })
    });
    Command::new("qemu-img")
        .args(["convert", "-q", "-O", format.as_str()])
        .arg(format!("json:{chain}"))
        .missing("install qemu-img (`nixvm doctor` says how)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &Path, words: &[&str]) {
        Command::new(words[0]).args(&words[1..]).current_dir(folder).output().unwrap();
    }

    #[test]
    fn layers_become_one_image_whatever_their_headers_name() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |name: &str, pattern: &str| {
            run(dir.path(), &["qemu-img", "create", "-q", "-f", "qcow2", name, "8M"]);
            run(dir.path(), &["qemu-io", "-f", "qcow2", "-c", pattern, name]);
        };
        layer("2", "write -P 2 0 1M");
        layer("1", "write -P 1 512k 1M");
        layer("0", "write -z 0 64k");
        // Its header leads elsewhere: to a file of this computer that is no business of the host's.
        layer("secret", "write -P 9 0 8M");
        run(dir.path(), &["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "secret", "1"]);
        for format in [Format::Qcow2, Format::Raw] {
            let to = dir.path().join("whole");
            join(3, dir.path(), (&to, format)).unwrap();
            for holds in
                ["read -P 0 0 64k", "read -P 2 64k 448k", "read -P 1 512k 1M", "read -P 0 1536k 6656k"]
            {
                run(dir.path(), &["qemu-io", "-f", format.as_str(), "-c", holds, "whole"]);
            }
            let info = Command::new("qemu-img").args(["info", "--output=json"]).arg(&to).output().unwrap();
            let info: Value = serde_json::from_slice(&info).unwrap();
            assert_eq!(info["virtual-size"], 8 << 20);
            assert_eq!(info.get("backing-filename"), None);
        }
    }

    #[test]
    fn a_layer_that_keeps_its_data_in_another_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), &["qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=secret", "0", "8M"]);
        let refused = join(1, dir.path(), (&dir.path().join("whole"), Format::Raw)).unwrap_err();
        assert!(format!("{refused:#}").contains("keeps its data in another file"), "{refused:#}");
        std::fs::write(dir.path().join("0"), "no qcow2 file").unwrap();
        assert!(join(1, dir.path(), (&dir.path().join("whole"), Format::Raw)).is_err());
    }
}
