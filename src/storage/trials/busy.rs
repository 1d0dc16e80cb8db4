//! A pool in which libvirt copies a volume for another command, which keeps it from looking at the pool.

use std::io::Read;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use virt::storage_vol::StorageVol;
use virt::stream::Stream;

use super::Trial;
use crate::model::Size;

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
    pool.reader("w.nvram-next-2.fd").unwrap().read_to_end(&mut bytes).unwrap();
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
