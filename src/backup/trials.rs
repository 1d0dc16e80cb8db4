//! Whole archives: written, read by other programs, damaged and forged.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::member::header;
use super::{
    Archive, ArchiveSource, Checksum, FileName, MachineFile, Manifest, Member, MemberKind, front, sample,
    write,
};
use crate::error::{Report, Result};
use crate::model::Progress;

fn verify(path: &Path) -> Result<()> {
    Archive::open(path)?.verify(&mut |_| Ok(()))
}

/// Returns path and contents of every member.
fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let archive = Archive::open(path).unwrap();
    let mut members = archive.members().unwrap();
    let mut all = Vec::new();
    while let Some(mut entry) = members.advance().unwrap() {
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        all.push((entry.member().path(), bytes));
    }
    all
}

fn shell(folder: &Path, script: &str) -> String {
    let output =
        Command::new("bash").current_dir(folder).args(["-eo", "pipefail", "-c", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_usual_programs_read_an_archive() {
    let dir = tempfile::tempdir().unwrap();
    let data = sample::qcow2(20 << 30, 3 << 20);
    let (path, name) = sample::archive(dir.path(), &data, Some(b"nvram"));
    let run = |script: &str| shell(dir.path(), &script.replace("FILE", &name.to_string()));
    run("zstd -q -t FILE");
    // The manifest's frame, one that is skipped, and one for each 512 KiB of the rest.
    let list = run("zstd -l FILE");
    assert_eq!(
        list.lines().nth(1).unwrap().split_whitespace().take(2).collect::<Vec<_>>(),
        ["9", "1"],
        "{list}"
    );
    let expected = "-rw------- 0/0 2026-01-21 17:11 manifest.json
-rwx------ 0/0 2026-01-21 17:11 machine/health-check
-rw------- 0/0 2026-01-21 17:11 machine/profile
-rw------- 0/0 2026-01-21 17:11 machine/udp_ports
-rw------- 0/0 2026-01-21 17:11 data.qcow2
-rw------- 0/0 2026-01-21 17:11 nvram.fd
";
    for list in ["zstdcat FILE | TZ=UTC tar tv", "TZ=UTC tar --zstd -tvf FILE"] {
        assert_eq!(run(&format!(r"{list} | sed -E 's/ +[0-9]+ 2026/ 2026/'")), expected);
    }
    run("mkdir out && tar --zstd -xf FILE -C out");
    let out = dir.path().join("out");
    for (path, bytes) in contents(&path) {
        assert_eq!(fs::read(out.join(path)).unwrap(), bytes);
    }
    assert_eq!(fs::metadata(out.join("machine/health-check")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read(out.join("data.qcow2")).unwrap(), data);
    // As docs/backups.md says.
    let checked = shell(
        &out,
        r#"jq -r '.members[] | "\(.sha256)  \(.path)"' manifest.json | sha256sum -c --quiet && echo right"#,
    );
    assert_eq!(checked, "right\n");
}

#[test]
fn an_archive_is_private_and_says_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (path, name) = sample::archive(dir.path(), &sample::qcow2(20 << 30, 100_000), None);
    assert_eq!(name.to_string(), "web-20260121-171147.tar.zst");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let archive = Archive::open(&path).unwrap();
    assert_eq!(archive.manifest().about, sample::about());
    let roles: Vec<String> = archive.manifest().members.iter().map(Member::path).collect();
    assert_eq!(roles, ["machine/health-check", "machine/profile", "machine/udp_ports", "data.qcow2"]);
    assert_eq!(archive.checksum(), Checksum::of(archive.manifest().text().unwrap().as_bytes()));
    let mut last = None;
    let mut watch = |progress| {
        last = Some(progress);
        Ok(())
    };
    archive.verify(&mut watch).unwrap();
    let total = 100_000 + sample::files().iter().map(|file| file.bytes.len() as u64).sum::<u64>();
    assert_eq!(last, Some(Progress { done: total, total }));
    let (_, second) = sample::archive(dir.path(), &sample::qcow2(20 << 30, 100), None);
    assert_eq!(second.to_string(), "web-20260121-171148.tar.zst");
}

#[test]
fn a_byte_changed_anywhere_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    // Compressible in part, so that every kind of zstd's blocks occurs.
    let mut data = sample::qcow2(1 << 30, 300);
    data.extend("the quick brown fox jumps over the lazy dog; ".repeat(9).bytes());
    data.extend([7; 300]);
    let (path, _) = sample::archive(dir.path(), &data, Some(b"nvram"));
    verify(&path).unwrap();
    let good = fs::read(&path).unwrap();
    let mut unnoticed = Vec::new();
    for at in 0..good.len() {
        for mask in [0xff, 1 << (at % 8)] {
            let mut bad = good.clone();
            bad[at] ^= mask;
            fs::write(&path, &bad).unwrap();
            if verify(&path).is_ok() {
                unnoticed.push((at, mask));
            }
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:?} of {} bytes", good.len());
}

#[test]
fn an_archive_of_another_length_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = sample::archive(dir.path(), &sample::qcow2(1 << 30, 2000), Some(b"nvram"));
    let good = fs::read(&path).unwrap();
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        assert!(verify(&path).is_err(), "{length} of {}", good.len());
    }
    let again = good.repeat(2);
    let skippable = [good.as_slice(), b"\x50\x2a\x4d\x18\0\0\0\0"].concat();
    let (more, seal) = ("there is more data after its end", "its seal is broken");
    for (longer, why) in [([good.as_slice(), b"\0"].concat(), more), (again, more), (skippable, seal)] {
        fs::write(&path, &longer).unwrap();
        let report = Report::of(&verify(&path).unwrap_err());
        assert_eq!(report.error, format!("the archive {} is damaged", path.display()));
        assert_eq!(report.causes, [why]);
        assert_eq!(report.hints, ["use another archive of the machine"]);
    }
}

/// A tar archive in the making, by somebody who means ill.
struct Forgery {
    manifest: Manifest,
    tar: Vec<u8>,
}

impl Forgery {
    /// Returns an honest manifest of the data alone, and nothing behind it.
    fn new(data: &[u8]) -> Self {
        let role = MemberKind::Data { virtual_size: 1 << 30 };
        let member = Member { role, size: data.len() as u64, sha256: Checksum::of(data) };
        Forgery { manifest: Manifest { about: sample::about(), members: vec![member] }, tar: Vec::new() }
    }

    fn member(mut self, path: &str, bytes: &[u8]) -> Self {
        self.tar.extend(header(path, bytes.len() as u64, 0o600, sample::about().created).unwrap());
        self.tar.extend(bytes);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    fn end(mut self) -> Self {
        self.tar.extend([0; 1024]);
        self
    }

    fn write(&self, path: &Path) {
        let text = self.manifest.text().unwrap();
        let body = zstd::bulk::compress(&self.tar, 1).unwrap();
        let (created, room) = (self.manifest.about.created, front::room(text.len()));
        let front = front::pack(&text, created, room, Sha256::new_with_prefix(&body)).unwrap();
        fs::write(path, [front, body].concat()).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn refusal(&self) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        self.write(&path);
        let report = Report::of(&verify(&path).unwrap_err());
        assert_eq!(report.error, format!("the archive {} is damaged", path.display()));
        assert_eq!(report.hints.len(), 1);
        report.causes.join(": ")
    }
}

#[test]
fn a_forged_archive_is_refused() {
    let data = sample::qcow2(1 << 30, 1000);
    let forged = || Forgery::new(&data);
    let dir = tempfile::tempdir().unwrap();
    forged().member("data.qcow2", &data).end().write(&dir.path().join("x"));
    verify(&dir.path().join("x")).unwrap();

    let mut other = data.clone();
    other[999] ^= 1;
    let smaller = sample::qcow2(1 << 29, 1000);
    let over = |at: usize| {
        let mut head = data.clone();
        head[at] = 4;
        head
    };
    for (forgery, expected) in [
        (forged(), "it cannot be decompressed: failed to fill whole buffer"),
        (forged().end(), "`data.qcow2` is missing"),
        (forged().member("data.qcow2", &data), "it cannot be decompressed: failed to fill whole buffer"),
        (
            forged().member("data.qcow2", &data).member("data.qcow2", &data).end(),
            "unexpected bytes after the last member of the manifest",
        ),
        (
            forged().member("nvram.fd", b"x").member("data.qcow2", &data).end(),
            "`nvram.fd` is where `data.qcow2` must be",
        ),
        (
            forged().member("data.qcow2", &data[..999]).end(),
            "`data.qcow2` has 999 bytes, and the manifest says 1000",
        ),
        (
            forged().member("data.qcow2", &[&data[..], b"x"].concat()).end(),
            "`data.qcow2` has 1001 bytes, and the manifest says 1000",
        ),
        (
            forged().member("data.qcow2", &other).end(),
            "`data.qcow2` has another digest than the manifest says",
        ),
        (forged().member("data.qcow2", &data).end().end(), "there is more data after its end"),
        (
            Forgery::new(&smaller).member("data.qcow2", &smaller).end(),
            "`data.qcow2` is a disk of 536870912 bytes, and the manifest says 1073741824",
        ),
        (
            Forgery::new(&over(15)).member("data.qcow2", &over(15)).end(),
            "the data is a qcow2 file that lies over another file",
        ),
        (
            Forgery::new(&over(79)).member("data.qcow2", &over(79)).end(),
            "the data is a qcow2 file that keeps its data in another file",
        ),
    ] {
        assert_eq!(forgery.refusal(), expected);
    }
    let mut dirty = forged().member("data.qcow2", &data).end();
    dirty.tar[512 + 1000] = 1;
    assert_eq!(dirty.refusal(), "unexpected bytes after `data.qcow2`");
    let mut cut = forged().member("data.qcow2", &data);
    cut.tar.truncate(600);
    assert_eq!(cut.refusal(), "it ends inside `data.qcow2`");
}

#[test]
fn a_bomb_is_not_unpacked() {
    let data = sample::qcow2(1 << 30, 1000);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let forgery = Forgery::new(&data).member("data.qcow2", &data).end();
    forgery.write(&path);
    let mut bytes = fs::read(&path).unwrap();
    let body = zstd::zstd_safe::find_frame_compressed_size(&bytes).unwrap();
    let body = body + zstd::zstd_safe::find_frame_compressed_size(&bytes[body..]).unwrap();
    // A window of 128 MiB, which a reader would have to hold.
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    std::io::Write::write_all(&mut encoder, &forgery.tar).unwrap();
    std::io::Write::flush(&mut encoder).unwrap();
    bytes.truncate(body);
    bytes.extend(encoder.finish().unwrap());
    fs::write(&path, &bytes).unwrap();
    let report = Report::of(&verify(&path).unwrap_err());
    assert_eq!(report.causes, ["it cannot be decompressed", "Frame requires too much memory for decoding"]);
}

#[test]
fn an_archive_that_others_could_have_written_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = sample::archive(dir.path(), &sample::qcow2(1 << 30, 100), None);
    let shown = path.display();
    let refusal = || Report::of(&Archive::open(&path).unwrap_err());
    for mode in [0o620, 0o602] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let report = refusal();
        assert_eq!(report.error, format!("cannot read the archive {shown}"));
        assert_eq!(
            report.causes,
            ["other users can write it, and its contents would become a machine of yours"]
        );
        assert_eq!(
            report.hints,
            [format!("if you trust it, make it your own: `chown $(id -u) {shown} && chmod 600 {shown}`")]
        );
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    verify(&path).unwrap();
}

#[test]
fn what_is_no_archive_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let causes = || Report::of(&Archive::open(&path).unwrap_err()).causes.join(": ");
    assert_eq!(causes(), "No such file or directory (os error 2)");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(causes(), "it is not a regular file");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "hello, world").unwrap();
    assert_eq!(causes(), "its beginning cannot be decompressed: Unknown frame descriptor");
}

#[test]
fn a_member_that_is_not_read_is_compared_all_the_same() {
    let data = sample::qcow2(1 << 30, 300_000);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let mut other = data.clone();
    other[299_999] ^= 1;
    let mut forgery = Forgery::new(&data).member("data.qcow2", &other).end();
    forgery.write(&path);
    let archive = Archive::open(&path).unwrap();
    let mut members = archive.members().unwrap();
    assert_eq!(members.advance().unwrap().unwrap().member().path(), "data.qcow2");
    assert!(members.advance().is_err());
    // Nor can it be read whole by somebody who counts bytes and does not wait for the end.
    let mut members = archive.members().unwrap();
    let mut entry = members.advance().unwrap().unwrap();
    assert!(entry.read_exact(&mut vec![0; 299_000]).is_ok());
    assert!(entry.read_exact(&mut [0; 1000]).is_err());
    forgery = Forgery::new(&data).member("data.qcow2", &data).end();
    forgery.write(&path);
    assert_eq!(contents(&path), [("data.qcow2".to_owned(), data)]);
}

fn machine_files() -> impl Strategy<Value = Vec<MachineFile>> {
    let file =
        ("[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", any::<bool>(), prop::collection::vec(any::<u8>(), 0..1500));
    prop::collection::btree_map(file.0, (file.1, file.2), 0..6).prop_map(|files| {
        let file = |(name, (executable, bytes)): (String, _)| MachineFile {
            name: name.parse::<FileName>().unwrap(),
            executable,
            bytes,
        };
        files.into_iter().map(file).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_was_written_is_read(
        files in machine_files(),
        length in 80..400_000usize,
        repeat in 1..5usize,
        nvram in prop::option::of(prop::collection::vec(any::<u8>(), 0..3000)),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let data = sample::qcow2(1 << 30, length).repeat(repeat);
        let mut expected: Vec<(String, Vec<u8>)> =
            files.iter().map(|file| (format!("machine/{}", file.name.as_str()), file.bytes.clone())).collect();
        expected.push(("data.qcow2".to_owned(), data.clone()));
        expected.extend(nvram.clone().map(|bytes| ("nvram.fd".to_owned(), bytes)));
        let modes: Vec<bool> = files.iter().map(|file| file.executable).collect();
        let source = ArchiveSource {
            files,
            data: &mut data.as_slice(),
            data_size: data.len() as u64,
            nvram: nvram.as_deref(),
        };
        let written = write(dir.path(), &sample::about(), source, &mut |_| Ok(())).unwrap();
        let path = dir.path().join(written.name.to_string());
        let archive = Archive::open(&path).unwrap();
        archive.verify(&mut |_| Ok(())).unwrap();
        prop_assert_eq!(archive.checksum(), written.manifest);
        let read: Vec<bool> = archive.manifest().members.iter().filter_map(|member| match member.role {
            MemberKind::File { executable, .. } => Some(executable),
            _ => None,
        }).collect();
        prop_assert_eq!(read, modes);
        prop_assert_eq!(contents(&path), expected);
    }
}
