//! Volumes read back.

use std::io::Read;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use super::super::Piece;
use super::{Trial, mostly_hole, run};
use crate::error::{Failure, Report};

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

#[test]
#[ignore = "needs qemu:///system"]
fn a_volume_is_read_back_byte_for_byte_and_fast() {
    let trial = Trial::new("h-hv-read");
    let pool = &trial.0;
    pool.put("a.qcow2", &mostly_hole(), &mut |_| Ok(())).unwrap();
    let (mut data, mut holes) = (0, 0);
    let start = Instant::now();
    let length = pool.read_from("a.qcow2", 0, &mut |piece| {
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
    let mut read = Vec::with_capacity(513 << 20);
    let start = Instant::now();
    pool.reader("full.img").unwrap().read_to_end(&mut read).unwrap();
    println!("512 MiB read in {:?}", start.elapsed());
    assert_eq!(read.len(), 513 << 20);
    assert!(read == std::fs::read(trial.file("full.img")).unwrap());
    let refused = pool.read_from("full.img", 0, &mut |_| Err(Failure::user("enough").into()));
    assert!(Report::of(&refused.unwrap_err()).causes.contains(&"enough".to_owned()));
    assert_eq!(pool.usage("full.img").unwrap().map(|usage| usage.capacity), Some(513 << 20));
}
