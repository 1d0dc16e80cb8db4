//! Volumes with backing files, and what looks like some.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use super::super::Stored;
use super::{Trial, header, run};
use crate::error::{Failure, Report};

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
    pool.reader("a.nvram.fd").unwrap().read_to_end(&mut read).unwrap();
    pool.put_bytes("a.nvram-2.fd", &read).unwrap();
    assert!(read == std::fs::read(trial.file("a.nvram-2.fd")).unwrap() && read.len() == 4096 + 5);
    assert!(pool.delete("b.data-1.qcow2").unwrap() && pool.delete("a.serial.log").unwrap());
}
