//! What an archive costs beside `tar | zstd -T0` on the same bytes. Nothing fails here: times belong to their host.
//!
//!     cargo bench --bench archive -- [MIB]
//!
//! The data is a third each of noise, of text and of nearly nothing; 4096 MiB by default. It needs as much space in the
//! folder for temporary files, and that again for the archives. On a host that does other things as well, compare the
//! seconds of the processors.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nixvm::backup::{About, Archive, ArchiveSource, State, write};
use nixvm::model::{Generation, Timestamp};

/// Most memory that a command may have, in MiB.
const MEMORY: f64 = 32.0;

fn main() -> Result<()> {
    let mib = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(4096);
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data.qcow2");
    make(&data, mib)?;
    println!("{:<20} {:>8} {:>8} {:>8} {:>9}", format!("{mib} MiB"), "seconds", "MiB/s", "cpu s", "peak MiB");
    for _ in 0..2 {
        measured("tar | zstd -T0 -3", mib, || {
            run(dir.path(), "tar c data.qcow2 | zstd -q -T0 -3 -o other && sync other")
        })?;
        let path = measured("write", mib, || archive(dir.path(), &data))?;
        let archive = measured("open", mib, || Archive::open(&path))?;
        measured("verify", mib, || archive.verify(&mut |_| Ok(())))?;
        let size = |path: &Path| fs::metadata(path).map(|metadata| metadata.len() >> 20);
        println!("archive: {} MiB, tar | zstd: {} MiB", size(&path)?, size(&dir.path().join("other"))?);
        fs::remove_file(path)?;
        fs::remove_file(dir.path().join("other"))?;
    }
    Ok(())
}

/// Prints what `what` costs, and returns what it returns. The memory is this process's alone.
fn measured<T>(name: &str, mib: u64, what: impl FnOnce() -> Result<T>) -> Result<T> {
    let (started, processors) = (Instant::now(), processors()?);
    let (value, peak) = watched(what)?;
    let (took, used) = (started.elapsed().as_secs_f64(), self::processors()? - processors);
    let over = if peak > MEMORY { "  over" } else { "" };
    println!("{name:<20} {took:>8.3} {:>8.0} {used:>8.2} {peak:>9.1}{over}", mib as f64 / took);
    Ok(value)
}

/// Returns the seconds of all processors that this process and its children have had.
fn processors() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // utime, stime, cutime and cstime behind the name in brackets (proc(5)), in ticks of 1/100 s.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(4).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / 100.0)
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

fn archive(folder: &Path, data: &Path) -> Result<PathBuf> {
    let about = About {
        machine: "web".parse()?,
        profile: "core".parse()?,
        machine_id: "0b5f0e4c5a4b4c7e9f570d6f6f1f8a11".parse()?,
        created: Timestamp::now(),
        nixvm: "0".to_owned(),
        generation: Generation { number: 1, digest: "0".repeat(64) },
        nixpkgs_revision: "0".to_owned(),
        state: State::Off,
        parent: None,
        checkpoint: None,
    };
    let mut file = File::open(data)?;
    let data_size = file.metadata()?.len();
    let source = ArchiveSource { files: Vec::new(), data: &mut file, data_size, nvram: None };
    let written = write(folder, &about, source, &mut |_| Ok(()))?;
    Ok(folder.join(written.name.to_string()))
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
