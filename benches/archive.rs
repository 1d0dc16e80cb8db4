//! What an archive costs beside `tar | zstd -T0` on the same bytes. Nothing fails here: times belong to their host.
//!
//!     cargo bench --bench archive -- [MIB]
//!
//! The data is a third each of noise, of text and of nearly nothing; 4096 MiB by default. It needs as much space in the
//! folder for temporary files, and that again for the archives.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nixvm::backup::{About, Archive, Moment, Source, State, write};
use nixvm::model::Generation;

/// Most memory that a command may have, in MiB.
const MEMORY: f64 = 32.0;

fn main() -> Result<()> {
    let mib = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(4096);
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data.qcow2");
    make(&data, mib)?;
    println!("{:<28} {:>8} {:>8} {:>8}", format!("{mib} MiB"), "seconds", "MiB/s", "peak MiB");
    for _ in 0..2 {
        let (zstd, _) =
            timed(|| run(dir.path(), "tar c data.qcow2 | zstd -q -T0 -3 -o other && sync other"))?;
        row("tar | zstd -T0 -3", mib, zstd, None);
        let ((path, ours), peak) =
            timed(|| archive(dir.path(), &data)).map(|(t, (path, peak))| ((path, t), peak))?;
        row("write", mib, ours, Some(peak));
        let (opened, archive) = timed(|| Archive::open(&path))?;
        println!("{:<28} {:>8.4}", "open", opened.as_secs_f64());
        let (verified, peak) = timed(|| watched(|| archive.verify(&mut |_| Ok(()))))?;
        row("verify", mib, verified, Some(peak.1));
        let size = |path: &Path| fs::metadata(path).map(|metadata| metadata.len() >> 20);
        println!("archive: {} MiB, tar | zstd: {} MiB", size(&path)?, size(&dir.path().join("other"))?);
        fs::remove_file(path)?;
        fs::remove_file(dir.path().join("other"))?;
    }
    Ok(())
}

fn row(what: &str, mib: u64, took: Duration, peak: Option<f64>) {
    let speed = mib as f64 / took.as_secs_f64();
    let peak = peak.map(|peak| format!("{peak:>8.1}{}", if peak > MEMORY { "  over" } else { "" }));
    println!("{what:<28} {:>8.2} {speed:>8.0} {}", took.as_secs_f64(), peak.unwrap_or_default());
}

fn timed<T>(what: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let started = Instant::now();
    let value = what()?;
    Ok((started.elapsed(), value))
}

/// Returns what `what` returns, and the most memory that the process had meanwhile, in MiB.
fn watched<T>(what: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    // Makes the peak what is resident now (proc(5)).
    fs::write("/proc/self/clear_refs", "5")?;
    let value = what()?;
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc")?;
    let kib: f64 = peak.trim().trim_end_matches(" kB").parse()?;
    Ok((value, kib / 1024.0))
}

fn archive(folder: &Path, data: &Path) -> Result<(std::path::PathBuf, f64)> {
    let about = About {
        machine: "web".parse()?,
        profile: "core".parse()?,
        machine_id: "0b5f0e4c5a4b4c7e9f570d6f6f1f8a11".parse()?,
        created: Moment::now(),
        nixvm: "0".to_owned(),
        generation: Generation { number: 1, digest: "0".repeat(64) },
        nixpkgs_revision: "0".to_owned(),
        state: State::Off,
        parent: None,
        checkpoint: None,
    };
    let mut file = File::open(data)?;
    let data_size = file.metadata()?.len();
    let source = Source { files: Vec::new(), data: &mut file, data_size, nvram: None };
    let (written, peak) = watched(|| write(folder, &about, source, &mut |_| Ok(())))?;
    Ok((folder.join(written.name.to_string()), peak))
}

fn run(folder: &Path, script: &str) -> Result<()> {
    let status = Command::new("bash").current_dir(folder).args(["-eo", "pipefail", "-c", script]).status()?;
    ensure!(status.success(), "`{script}` failed");
    Ok(())
}

/// Writes what begins as a qcow2 file does.
fn make(path: &Path, mib: u64) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut noise = File::open("/dev/urandom")?;
    let mut block = vec![0; 1 << 20];
    for i in 0..mib {
        match i % 3 {
            0 => noise.read_exact(&mut block)?,
            1 => words(&mut block, i)?,
            _ => {
                block.fill(0);
                noise.read_exact(block.split_at_mut(1 << 16).0)?;
            }
        }
        if i == 0 {
            let (head, _) = block.split_at_mut(80);
            head.fill(0);
            head.split_at_mut(8).0.copy_from_slice(b"QFI\xfb\0\0\0\x03");
        }
        file.write_all(&block)?;
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}

/// Fills the block with lines as a log has them.
fn words(block: &mut Vec<u8>, seed: u64) -> Result<()> {
    let mut state = seed;
    block.clear();
    while block.len() < 1 << 20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        writeln!(
            block,
            "Jan 21 17:11:{:02} web sshd[{}]: Accepted publickey for admin from 10.0.{}.{} port {}",
            state >> 58,
            state >> 48,
            state >> 40 & 0xff,
            state >> 32 & 0xff,
            state & 0xffff
        )?;
    }
    block.truncate(1 << 20);
    Ok(())
}
