//! Uploads tried on the real libvirt: `cargo test --lib storage:: -- --ignored --nocapture`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use virt::storage_vol::StorageVol;
use virt::stream::Stream;

use super::{Piece, Pool, Stored, data, identity};
use crate::error::{Failure, Report};
use crate::model::Size;

/// A pool of its own on the real libvirt, undefined when dropped.
struct Trial(Pool, tempfile::TempDir);

impl Trial {
    fn new(name: &str) -> Self {
        let connection = crate::libvirt::connect("qemu:///system").unwrap();
        let dir = tempfile::Builder::new().tempdir_in("/var/lib/libvirt/images").unwrap();
        let path = dir.path().join("pool");
        let xml = format!(
            "<pool type='dir'><name>{name}</name><target><path>{}</path></target></pool>",
            path.display()
        );
        Trial(Pool::ensure(&connection, name, &xml).unwrap(), dir)
    }

    fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.file(name)).unwrap().mode() & 0o777
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.1.path().join("pool").join(name)
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let _ = self.0.pool.destroy();
        let _ = self.0.pool.undefine();
    }
}

fn mostly_hole() -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(2 << 30).unwrap();
    for at in [0, 5000, 1 << 30, (2 << 30) - 7] {
        file.write_all_at(b"\x01 data", at).unwrap();
    }
    file
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_sparse_file_arrives_byte_for_byte_and_sparse() {
    let trial = Trial::new("nixvm-t-sparse");
    let source = mostly_hole();
    let start = Instant::now();
    let mut calls = 0;
    let stored = trial
        .0
        .put("a.qcow2", &source, &mut |_| {
            calls += 1;
            Ok(())
        })
        .unwrap();
    println!("2 GiB of holes stored in {:?}, {calls} steps", start.elapsed());
    assert_eq!(stored, Stored::Uploaded);
    let there = File::open(trial.file("a.qcow2")).unwrap();
    assert_eq!(there.metadata().unwrap().len(), 2 << 30);
    assert!(there.metadata().unwrap().blocks() * 512 < 4 << 20);
    assert_eq!(there.metadata().unwrap().mode() & 0o777, 0o600);
    let mut bytes = [0; 6];
    for at in [0, 5000, 1 << 30] {
        there.read_exact_at(&mut bytes, at).unwrap();
        assert_eq!(&bytes, b"\x01 data");
    }
    assert_eq!(trial.0.volumes().unwrap(), ["a.qcow2"]);
    assert_eq!(trial.0.put("a.qcow2", &source, &mut |_| Ok(())).unwrap(), Stored::Present);
    let start = Instant::now();
    trial.0.put_bytes("small.img", &[7; 5000]).unwrap();
    println!("5000 bytes stored in {:?}", start.elapsed());
    let disk = data::format(Size::from_bytes(20 << 30), trial.1.path()).unwrap();
    let start = Instant::now();
    trial.0.put("data.qcow2", disk.as_file(), &mut |_| Ok(())).unwrap();
    println!("a data disk stored in {:?}: {:?}", start.elapsed(), trial.0.usage("data.qcow2").unwrap());
    let image = identity::image(&[("key", b"abc")]).unwrap();
    trial.0.put_bytes("id.img", &image).unwrap();
    println!("an identity image: {:?}", trial.0.usage("id.img").unwrap());
    assert_eq!(std::fs::read(trial.file("small.img")).unwrap(), [7; 5000]);
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_refused_upload_leaves_nothing_and_a_partial_volume_is_made_anew() {
    let trial = Trial::new("nixvm-t-partial");
    let refused = trial.0.put("a.qcow2", &mostly_hole(), &mut |p| {
        if p.done > 1 << 20 { Err(Failure::user("interrupted").into()) } else { Ok(()) }
    });
    assert!(refused.is_err());
    assert!(trial.0.volumes().unwrap().is_empty());

    // What a writer leaves that dies between the second step and the third.
    StorageVol::create_xml(
        &trial.0.pool,
        "<volume><name>a.qcow2</name><capacity>1048576</capacity><allocation>0</allocation></volume>",
        0,
    )
    .unwrap();
    assert!(!trial.0.is_whole("a.qcow2").unwrap());
    assert_eq!(trial.0.put("a.qcow2", &mostly_hole(), &mut |_| Ok(())).unwrap(), Stored::Uploaded);
    assert!(trial.0.is_whole("a.qcow2").unwrap());

    // A file that somebody removed by hand, and libvirt does not know it.
    std::fs::remove_file(trial.file("a.qcow2")).unwrap();
    assert!(!trial.0.has("a.qcow2").unwrap());
    trial.0.put_bytes("a.qcow2", &[7; 5000]).unwrap();
    std::fs::remove_file(trial.file("a.qcow2")).unwrap();
    assert!(!trial.0.is_whole("a.qcow2").unwrap());
    assert_eq!(trial.0.put_bytes("a.qcow2", &[8; 5000]).unwrap(), Stored::Uploaded);
    // And one that somebody put there.
    std::fs::write(trial.file("b.img"), "by hand").unwrap();
    assert_eq!(trial.0.volume_path("b.img").unwrap(), trial.file("b.img").display().to_string());
}

#[test]
#[ignore = "needs qemu:///system"]
fn what_is_written_while_it_is_read_is_told_at_its_end() {
    let trial = Trial::new("nixvm-t-still");
    trial.make("a.qcow2", None);
    trial.qemu_io("a.qcow2", "write -P 1 0 8M");
    let read = |written: bool| {
        let stamp = trial.0.stamp("a.qcow2").unwrap();
        let mut reader = trial.0.still_reader("a.qcow2", stamp).unwrap();
        let mut bytes = vec![0; 1 << 20];
        reader.read_exact(&mut bytes).unwrap();
        if written {
            // The same bytes, where no more is allocated.
            trial.qemu_io("a.qcow2", "write -P 1 4M 64k");
        }
        let rest = reader.read_to_end(&mut bytes).map(|_| bytes.len() as u64 == reader.length());
        rest.map_err(|error| error.to_string())
    };
    assert_eq!(read(false), Ok(true));
    assert_eq!(read(true), Err("it was written while it was read".to_owned()));
    assert_eq!(read(false), Ok(true));

    assert!(trial.0.is_compact("a.qcow2").unwrap());
    let mut bitmap = std::process::Command::new("qemu-img");
    let bitmap = bitmap.args(["bitmap", "--add"]).arg(trial.file("a.qcow2")).arg("since");
    assert!(bitmap.status().unwrap().success());
    assert!(!trial.0.is_compact("a.qcow2").unwrap());
    trial.0.overlay("b.qcow2", "a.qcow2").unwrap();
    assert!(!trial.0.is_compact("b.qcow2").unwrap());
    trial.make("c.qcow2", None);
    trial.qemu_io("c.qcow2", "write -P 1 0 64M");
    assert!(trial.0.is_compact("c.qcow2").unwrap());
    run("qemu-io", &["-d", "unmap", "-f", "qcow2", "-c", "discard 0 48M"], &trial.file("c.qcow2"));
    assert!(!trial.0.is_compact("c.qcow2").unwrap());
}

impl Trial {
    fn make(&self, name: &str, on: Option<&str>) {
        match on {
            Some(on) => self.0.overlay(name, on).unwrap(),
            None => self.0.blank(name, 1 << 30).unwrap(),
        };
    }

    fn qemu_io(&self, name: &str, command: &str) {
        run("qemu-io", &["-f", "qcow2", "-c", command], &self.file(name));
    }
}

fn run(program: &str, arguments: &[&str], file: &std::path::Path) -> String {
    let ran = std::process::Command::new(program).args(arguments).arg(file).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success() && !said.contains("failed"), "{program} {arguments:?}: {ran:?}");
    said
}

#[test]
#[ignore = "needs qemu:///system"]
fn overlays_make_a_chain_and_a_duplicate_leaves_it() {
    let trial = Trial::new("h-hv-chain");
    let pool = &trial.0;
    assert_eq!(pool.path().unwrap(), trial.file("").display().to_string().trim_end_matches('/'));
    trial.make("a.data.qcow2", None);
    trial.qemu_io("a.data.qcow2", "write -P 1 0 8M");
    assert_eq!(pool.overlay("a.data-1.qcow2", "a.data.qcow2").unwrap(), Stored::Uploaded);
    assert_eq!(pool.overlay("a.data-1.qcow2", "a.data.qcow2").unwrap(), Stored::Present);
    trial.qemu_io("a.data-1.qcow2", "write -P 2 4M 1M");
    pool.overlay("a.data-2.qcow2", "a.data-1.qcow2").unwrap();
    assert_eq!(trial.mode("a.data-2.qcow2"), 0o600);
    let chain = pool.chain("a.data-2.qcow2").unwrap();
    let names: Vec<&str> = chain.iter().map(|link| link.volume.as_str()).collect();
    assert_eq!(names, ["a.data-2.qcow2", "a.data-1.qcow2", "a.data.qcow2"]);
    assert!(chain.iter().all(|link| link.capacity == 1 << 30), "{chain:?}");
    assert!(chain[2].allocation >= 8 << 20 && chain[0].allocation < 1 << 20, "{chain:?}");
    assert_eq!(pool.backing_of_all().unwrap().len(), 2);
    assert_eq!(pool.lying_on("a.data.qcow2").unwrap().len(), 2);
    let other = Report::of(&pool.overlay("a.data-2.qcow2", "a.data.qcow2").unwrap_err());
    assert_eq!(other.causes, ["there is one, and it lies on `a.data-1.qcow2`"]);

    assert_eq!(pool.blank("blank.qcow2", 3 << 30).unwrap(), Stored::Uploaded);
    assert_eq!(pool.blank("blank.qcow2", 3 << 30).unwrap(), Stored::Present);
    let blank = pool.chain("blank.qcow2").unwrap();
    assert_eq!((blank.len(), blank[0].capacity), (1, 3 << 30));
    assert!(pool.blank("a.data-1.qcow2", 1 << 30).is_err());

    let start = Instant::now();
    let mut copy = |from: &str, to: &str| {
        assert_eq!(std::fs::metadata(to).unwrap().mode() & 0o777, 0o600);
        run("qemu-img", &["convert", "-n", "-f", "qcow2", "-O", "qcow2", from], to.as_ref());
        Ok(())
    };
    let stored = pool.duplicate("b.data.qcow2", (pool, "a.data-1.qcow2"), &mut copy).unwrap();
    assert_eq!(stored, Stored::Uploaded);
    println!("8 MiB in a chain of 2 duplicated in {:?}", start.elapsed());
    let never = &mut |_: &str, _: &str| Err(Failure::user("it is there").into());
    assert_eq!(pool.duplicate("b.data.qcow2", (pool, "a.data-1.qcow2"), never).unwrap(), Stored::Present);
    assert!(pool.duplicate("c.data.qcow2", (pool, "a.data-1.qcow2"), never).is_err());
    assert!(!pool.is_whole("c.data.qcow2").unwrap());
    assert!(pool.is_whole("b.data.qcow2").unwrap());
    assert_eq!((pool.chain("b.data.qcow2").unwrap().len(), trial.mode("b.data.qcow2")), (1, 0o600));
    let [one, two] = ["a.data-1.qcow2", "b.data.qcow2"].map(|name| trial.file(name).display().to_string());
    run("qemu-img", &["compare", "-f", "qcow2", "-F", "qcow2", &one], two.as_ref());
    run("qemu-img", &["check", "-f", "qcow2"], two.as_ref());
    assert_eq!(pool.volumes().unwrap().iter().filter(|name| name.ends_with(".part")).count(), 0);
    let started = Instant::now();
    pool.backing_of_all().unwrap();
    println!("backing_of_all of 5 volumes in {:?}", started.elapsed());
}

#[test]
#[ignore = "needs qemu:///system"]
fn chains_that_lead_nowhere_are_refused() {
    let trial = Trial::new("h-hv-broken");
    let pool = &trial.0;
    for (name, on) in [("a", None), ("b", Some("a")), ("c", Some("b"))] {
        trial.make(name, on);
    }
    let why = |name: &str| Report::of(&pool.chain(name).unwrap_err()).causes.join(": ");
    let rebase = |on: &str, name: &str| {
        run("qemu-img", &["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", on], &trial.file(name));
    };
    assert_eq!(why("d"), "`d` is missing");
    assert!(pool.delete("a").unwrap());
    assert_eq!(why("c"), "`a` is missing");
    rebase("c", "b");
    assert_eq!(why("c"), "`c` lies on itself");
    rebase("/etc/passwd", "b");
    assert_eq!(why("c"), "`b` lies on `/etc/passwd`, which is outside the pool");
    assert!(pool.overlay("d", "c").is_err());
    assert_eq!(pool.backing_of_all().unwrap()["b"], "/etc/passwd");
}

/// Returns the beginning of a qcow2 file on `below` with a disk of 4 EiB.
fn header(below: &str) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"QFI\xfb\0\0\0\x03");
    put(8, &512_u64.to_be_bytes());
    put(16, &u32::try_from(below.len()).unwrap().to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &(1_u64 << 62).to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    put(512, below.as_bytes());
    bytes
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_header_that_a_guest_wrote_makes_no_chain() {
    let trial = Trial::new("nixvm-t-forged");
    let pool = &trial.0;
    let base = "nixvm-base-00000000000000000000000000000000.qcow2";
    trial.make(base, None);
    trial.make("b.data-1.qcow2", None);
    trial.make("b.boot-1.qcow2", Some(base));
    for (name, below) in [
        ("a.serial.log", "/etc/shadow"),
        ("a.serial.log.0", base),
        ("a.nvram.fd", "b.data-1.qcow2"),
        ("a.nvram-1.fd", "a.nvram-1.fd"),
    ] {
        std::fs::write(trial.file(name), [header(below), b"\nmore".to_vec()].concat()).unwrap();
        assert_eq!(pool.chain(name).unwrap().len(), 1, "{name}");
        assert_eq!(pool.usage(name).unwrap().map(|usage| usage.capacity), Some(4096 + 5), "{name}");
    }
    // `logs --follow` asks for the length alone.
    File::options().append(true).open(trial.file("a.serial.log")).unwrap().write_all(b" lines").unwrap();
    assert_eq!(pool.usage("a.serial.log").unwrap().map(|usage| usage.capacity), Some(4096 + 11));
    assert_eq!(
        pool.backing_of_all().unwrap().into_iter().collect::<Vec<_>>(),
        [("b.boot-1.qcow2".into(), base.into())]
    );
    assert!(pool.lying_on("b.data-1.qcow2").unwrap().is_empty());
    // What a guest wrote is read to its end whatever it says of its length, and copied as it is.
    let mut read = Vec::new();
    pool.download("a.nvram.fd", &mut read, &mut |_| Ok(())).unwrap();
    pool.put_bytes("a.nvram-2.fd", &read).unwrap();
    assert!(read == std::fs::read(trial.file("a.nvram-2.fd")).unwrap() && read.len() == 4096 + 5);
    assert!(pool.delete("b.data-1.qcow2").unwrap() && pool.delete("a.serial.log").unwrap());
}

const BASE: &str = "nixvm-base-00000000000000000000000000000000.qcow2";

/// Carries out what one nixvm does that deletes a base (`d`) and another that makes a machine on it (`f`), in that order of
/// their steps; returns whether the machine has its base at the end. `None`, if the order is one that cannot be: the finder
/// would have waited.
fn meet(pool: &Pool, order: &str, waits: bool) -> Option<bool> {
    let boot = "db.boot-1.qcow2";
    for volume in [boot, BASE] {
        pool.delete_raw(volume).unwrap();
    }
    let base = [header(""), b"base".to_vec()].concat();
    pool.put_bytes(BASE, &base).unwrap();
    let (mut condemned, mut unneeded, mut step) = (None, false, [0, 0]);
    for who in order.chars() {
        let step = &mut step[usize::from(who == 'f')];
        *step += 1;
        match (who, *step) {
            ('d', 1) => condemned = Some(pool.condemn(BASE).unwrap()),
            ('d', 2) => unneeded = !pool.backing_of_all().unwrap().values().any(|below| below == BASE),
            ('d', 3) if unneeded => drop(condemned.take().unwrap().delete().unwrap()),
            ('d', 3) => condemned = None,
            ('f', 1) => drop(pool.put_bytes(boot, &header(BASE)).unwrap()),
            ('f', 2) if !waits => {}
            ('f', 2) if condemned.is_some() => return None,
            ('f', 2) => pool.wait_while_condemned(BASE).unwrap(),
            _ => drop(pool.put_bytes(BASE, &base).unwrap()),
        }
    }
    Some(pool.is_whole(BASE).unwrap())
}

/// Returns all orders in which so many steps of the one and of the other can be taken.
fn orders(d: usize, f: usize) -> Vec<String> {
    let mut all = Vec::new();
    for (who, (d, f)) in [("d", (d.checked_sub(1), Some(f))), ("f", (Some(d), f.checked_sub(1)))] {
        if let (Some(d), Some(f)) = (d, f) {
            all.extend(orders(d, f).into_iter().map(|rest| format!("{who}{rest}")));
        }
    }
    if all.is_empty() { vec![String::new()] } else { all }
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_base_that_was_found_is_there_whoever_deletes_it_meanwhile() {
    let trial = Trial::new("nixvm-t-condemned");
    let pool = &trial.0;
    let orders = orders(3, 3);
    assert_eq!(orders.len(), 20);
    let met: Vec<Option<bool>> = orders.iter().map(|order| meet(pool, order, true)).collect();
    assert!(
        met.iter().all(|has_base| *has_base != Some(false)),
        "{:?}",
        orders.iter().zip(&met).collect::<Vec<_>>()
    );
    assert!(met.iter().filter(|met| met.is_some()).count() > 5);
    // Without the wait a machine loses its base.
    assert!(orders.iter().any(|order| meet(pool, order, false) == Some(false)));
    assert!(pool.volumes().unwrap().iter().all(|name| !name.ends_with(".part")));
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_mark_is_waited_for_and_one_of_the_dead_is_not() {
    let trial = Trial::new("nixvm-t-marks");
    let pool = &trial.0;
    pool.put_bytes(BASE, &header("")).unwrap();
    let second = std::time::Duration::from_secs(1);
    std::thread::scope(|scope| {
        let condemned = pool.condemn(BASE).unwrap();
        let finder = scope.spawn(|| {
            let connection = crate::libvirt::connect("qemu:///system").unwrap();
            Pool::find(&connection, "nixvm-t-marks").unwrap().unwrap().wait_while_condemned(BASE).unwrap();
        });
        std::thread::sleep(2 * second);
        assert!(!finder.is_finished());
        assert!(condemned.delete().unwrap());
        finder.join().unwrap();
    });
    assert!(!pool.is_whole(BASE).unwrap());

    // Of a nixvm that was killed, by a host whose clock went back or on since.
    pool.put_bytes(BASE, &header("")).unwrap();
    let now = std::time::SystemTime::now();
    for then in [now - 3600 * second, now + 3600 * second] {
        let condemned = pool.condemn(BASE).unwrap();
        let mark = pool.volumes().unwrap().into_iter().find(|name| name.ends_with(".part")).unwrap();
        File::options().write(true).open(trial.file(&mark)).unwrap().set_modified(then).unwrap();
        pool.refresh().unwrap();
        pool.wait_while_condemned(BASE).unwrap();
        assert!(!condemned.delete().unwrap(), "it was taken for dead, and deletes what was found since");
        assert!(pool.is_whole(BASE).unwrap());
    }
    let here = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(pool.now().unwrap().unwrap().abs_diff(here) < 60);
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_volume_is_read_back_byte_for_byte_and_fast() {
    let trial = Trial::new("h-hv-read");
    let pool = &trial.0;
    pool.put("a.qcow2", &mostly_hole(), &mut |_| Ok(())).unwrap();
    let (mut data, mut holes) = (0, 0);
    let start = Instant::now();
    let length = pool.read("a.qcow2", &mut |piece| {
        match piece {
            Piece::Data(bytes) => data += bytes.len() as u64,
            Piece::Hole(length) => holes += length,
        }
        Ok(())
    });
    println!("2 GiB of holes read in {:?}: {data} bytes of data", start.elapsed());
    assert_eq!((length.unwrap(), data + holes), (2 << 30, 2 << 30));
    assert!(data < 1 << 20);

    let full = tempfile::tempfile().unwrap();
    let block: Vec<u8> = (0..1 << 20).map(|at: u32| (at * 7 + at / 253) as u8 | 1).collect();
    for at in 0..512_u64 {
        full.write_all_at(&block, at << 20).unwrap();
    }
    full.write_all_at(b"end", (513 << 20) - 3).unwrap();
    pool.put("full.img", &full, &mut |_| Ok(())).unwrap();
    let (mut read, mut last) = (Vec::with_capacity(513 << 20), None);
    let start = Instant::now();
    pool.download("full.img", &mut read, &mut |progress| {
        last = Some(progress);
        Ok(())
    })
    .unwrap();
    println!("512 MiB read in {:?}", start.elapsed());
    assert_eq!(last.map(|last| (last.done, last.total)), Some((513 << 20, 513 << 20)));
    assert!(read == std::fs::read(trial.file("full.img")).unwrap());
    let refused = pool.read("full.img", &mut |_| Err(Failure::user("enough").into()));
    assert!(Report::of(&refused.unwrap_err()).causes.contains(&"enough".to_owned()));
    assert_eq!(pool.usage("full.img").unwrap().map(|usage| usage.capacity), Some(513 << 20));
}

/// Another command that has libvirt copy a volume into the pool, and does not come to its end before this is dropped.
struct Copying(Pid, Option<std::thread::JoinHandle<()>>);

impl Copying {
    fn into_pool_of(trial: &Trial) -> Self {
        let (name, path) = (trial.0.name().to_owned(), trial.file("other.part").display().to_string());
        let block = vec![7; 1 << 20];
        let source = tempfile::tempfile().unwrap();
        (0..256).for_each(|at| source.write_all_at(&block, at << 20).unwrap());
        trial.0.put("other.part", &source, &mut |_| Ok(())).unwrap();
        let copying = std::thread::spawn(move || {
            let connection = crate::libvirt::connect("qemu:///system").unwrap();
            let pool = connection.lookup_storage_pool_by_name(&name).unwrap();
            let part = pool.lookup_storage_vol_by_name("other.part").unwrap();
            let xml = "<volume><name>other.qcow2</name><capacity>1</capacity><target><format type='qcow2'/></target></volume>";
            let _ = StorageVol::create_xml_from(&pool, xml, &part, 0);
        });
        let until = Instant::now() + Duration::from_secs(20);
        let copier = loop {
            let found = std::fs::read_dir("/proc").unwrap().find_map(|entry| {
                let entry = entry.unwrap();
                let line = std::fs::read(entry.path().join("cmdline")).ok()?;
                let line = String::from_utf8_lossy(&line).into_owned();
                let is_it = line.starts_with("/usr/bin/qemu-img") && line.contains(&path);
                Pid::from_raw(entry.file_name().to_str()?.parse().ok().filter(|_| is_it)?)
            });
            match found {
                Some(copier) => break copier,
                None => assert!(Instant::now() < until, "libvirt copies nothing"),
            }
        };
        kill_process(copier, Signal::STOP).unwrap();
        assert!(trial.0.pool.refresh(0).is_err(), "nothing is being copied");
        Copying(copier, Some(copying))
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
        let _ = self.1.take().map(std::thread::JoinHandle::join);
    }
}

/// All that `start` and the commands that restart a machine ask of a pool while the machine is off.
#[test]
#[ignore = "needs qemu:///system, as root"]
fn what_stands_between_stop_and_start_waits_for_no_copy_of_another_command() {
    let trial = Trial::new("nixvm-t-busy");
    let pool = &trial.0;
    trial.make("w.data-1.qcow2", None);
    pool.overlay("w.data-2.qcow2", "w.data-1.qcow2").unwrap();
    pool.put_bytes("w.identity.img", &[1; 5000]).unwrap();
    pool.put_bytes("w.nvram-next-2.fd", &[2; 5000]).unwrap();
    let _copying = Copying::into_pool_of(&trial);
    // And one that uploads, which says nothing for a while.
    let beside = crate::libvirt::connect("qemu:///system").unwrap();
    let other = beside.lookup_storage_pool_by_name("nixvm-t-busy").unwrap();
    let xml =
        "<volume><name>upload.part</name><capacity>1048576</capacity><allocation>0</allocation></volume>";
    let upload = StorageVol::create_xml(&other, xml, 0).unwrap();
    let stream = Stream::new(&beside, 0).unwrap();
    upload.upload(&stream, 0, 1 << 20, 0).unwrap();

    let began = Instant::now();
    let told = |what: &str| {
        println!("{:?}: {what}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(10), "waited to {what}");
    };
    assert_eq!(pool.chain("w.data-2.qcow2").unwrap().len(), 2);
    told("see that the data is whole");
    assert_eq!(pool.length_now("w.serial.log"), None);
    std::fs::write(trial.file("w.serial.log"), "boot").unwrap();
    pool.length_now("w.serial.log");
    told("see how long the serial log is");
    pool.overlay("w.data-3.qcow2", "w.data-2.qcow2").unwrap();
    told("make a layer");
    assert!(pool.is_whole("w.nvram-next-2.fd").unwrap());
    let mut bytes = Vec::new();
    pool.download("w.nvram-next-2.fd", &mut bytes, &mut |_| Ok(())).unwrap();
    assert_eq!(bytes, [2; 5000]);
    assert!(pool.delete("w.nvram-next-2.fd").unwrap());
    pool.put_bytes("w.nvram.fd", &bytes).unwrap();
    told("put the firmware's variables in force");
    assert!(pool.delete("w.identity.img").unwrap());
    pool.put_bytes("w.identity.img", &[3; 5000]).unwrap();
    told("write the identity");
    assert!(pool.grow_now("w.data-1.qcow2", Size::from_bytes(2 << 30)).unwrap());
    assert_eq!(pool.chain("w.data-1.qcow2").unwrap()[0].capacity, 2 << 30);
    // libvirt never looked at this one since it was made.
    assert!(!pool.grow_now("w.data-3.qcow2", Size::from_bytes(2 << 30)).unwrap());
    told("grow the data disk, or say that it will");
    for volume in ["w.data-3.qcow2", "w.identity.img"] {
        assert_eq!(pool.volume_path(volume).unwrap(), trial.file(volume).display().to_string());
    }
    told("define the machine");
    stream.abort().unwrap();
}

/// A power cut takes what was written and not synced: of a volume that was just made, at most its first 4 KiB.
///
/// What is only in memory has no place on the disk yet: ext4, XFS and btrfs choose one when they write (filefrag(8), `delalloc`).
#[test]
#[ignore = "needs qemu:///system, as root"]
fn what_makes_a_data_volume_whole_is_on_the_disk_when_it_counts() {
    let trial = Trial::new("nixvm-t-sync");
    let disk = data::format(Size::from_bytes(1 << 30), trial.1.path()).unwrap();
    let put = |name: &str| {
        let start = Instant::now();
        trial.0.put(name, disk.as_file(), &mut |_| Ok(())).unwrap();
        println!("{name} stored in {:?}", start.elapsed());
        run("filefrag", &["-v"], &trial.file(name))
    };
    // What can be made again is not synced, and shows what this would miss.
    assert!(put("w.boot-1.qcow2").contains("delalloc"));
    assert!(!put("w.data-1.qcow2").contains("delalloc"));
    assert!(trial.0.is_whole("w.data-1.qcow2").unwrap());
    let name = trial.file("w.data-1.qcow2").display().to_string();
    run("qemu-img", &["compare", "-f", "qcow2", "-F", "qcow2", &name], disk.path());
}

/// libvirt copies for as long as a volume is large, and cannot be told to end it. Played by this same test in another process.
#[test]
#[ignore = "needs qemu:///system"]
fn whoever_asks_to_stop_does_not_wait_for_libvirts_copy() {
    const NAME: &str = "storage::trials::whoever_asks_to_stop_does_not_wait_for_libvirts_copy";
    const POOL: &str = "NIXVM_TRIAL_POOL";
    if let Ok(name) = std::env::var(POOL) {
        signal_hook::flag::register(signal_hook::consts::SIGTERM, crate::interrupt::flag()).unwrap();
        let connection = crate::libvirt::connect("qemu:///system").unwrap();
        let pool = Pool::find(&connection, &name).unwrap().unwrap();
        let source = tempfile::tempfile().unwrap();
        source.set_len(6 << 30).unwrap();
        source.write_all_at(b"head", 0).unwrap();
        let report = Report::of(&pool.put("a.qcow2", &source, &mut |_| Ok(())).unwrap_err());
        assert_eq!(report.exit_code, 130, "{report:?}");
        return;
    }
    let trial = Trial::new("nixvm-t-copy");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", NAME])
        .env(POOL, "nixvm-t-copy")
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while trial.0.volume("a.qcow2").unwrap().is_none() {
        assert!(Instant::now() < until, "libvirt copies nothing");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(300));
    let asked = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    println!("ended after {:?}", asked.elapsed());
    assert!(trial.0.delete_raw("a.qcow2").is_err(), "libvirt has copied it already: this shows nothing");
    assert!(asked.elapsed() < Duration::from_secs(2));
    // What is left is waited for by whoever clears it away.
    trial.0.clear("a.qcow2").unwrap();
    assert_eq!(trial.0.volumes().unwrap(), [""; 0]);
}
