//! A host that is gone, tried with a real ssh server: `cargo test --lib libvirt::trials -- --ignored`.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;

use super::{connect, connect_within};
use crate::error::Report;

/// How long a host may be gone before that is noticed, with some seconds for a busy computer.
const NOTICED: Duration = Duration::from_secs(40);

/// An ssh server of the test's own on the loopback, with all of whose sessions it ends.
struct Server {
    sshd: Child,
    uri: String,
    dir: tempfile::TempDir,
}

impl Server {
    fn begin() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        for name in ["host_key", "key"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &at(name)]);
            assert!(keygen.status().unwrap().success());
        }
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n",
            at("host_key"),
            at("key.pub")
        );
        std::fs::write(at("config"), config).unwrap();
        std::fs::create_dir_all("/run/sshd").unwrap();
        let sshd = Command::new("/usr/sbin/sshd")
            .args(["-D", "-f", &at("config"), "-E", &at("log")])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let ssh = at("ssh");
        std::fs::write(
            &ssh,
            "#!/bin/sh\nexec ssh -F /dev/null -o BatchMode=yes -o UserKnownHostsFile=/dev/null \"$@\"\n",
        )
        .unwrap();
        let mut chmod = Command::new("chmod");
        assert!(chmod.args(["755", &ssh]).status().unwrap().success());
        let uri = format!(
            "qemu+ssh://root@127.0.0.1:{port}/system?keyfile={}&command={ssh}&no_verify=1",
            at("key")
        );
        // From here on it ends with this, whatever fails.
        let server = Server { sshd, uri, dir };
        let until = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "sshd does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// Stops the server and its sessions where they are: nothing is answered any more, and nothing is closed.
    fn vanish(&self) {
        family(Pid::from_child(&self.sshd))
            .into_iter()
            .for_each(|process| kill_process(process, Signal::STOP).unwrap());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for process in family(Pid::from_child(&self.sshd)) {
            let _ = kill_process(process, Signal::KILL);
        }
        let _ = self.sshd.wait();
    }
}

/// Returns a process and all that descend from it.
fn family(of: Pid) -> Vec<Pid> {
    let children = |of: Pid| -> Vec<Pid> {
        let path = format!("/proc/{0}/task/{0}/children", of.as_raw_nonzero());
        let listed = std::fs::read_to_string(Path::new(&path)).unwrap_or_default();
        listed.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    };
    let mut family = vec![of];
    let mut at = 0;
    while let Some(process) = family.get(at).copied() {
        family.extend(children(process));
        at += 1;
    }
    family
}

/// A pool that is gone when this is dropped.
struct Made(StoragePool);

impl Drop for Made {
    fn drop(&mut self) {
        let _ = self.0.destroy();
    }
}

#[test]
#[ignore = "needs qemu:///system and sshd, as root, and takes a minute"]
fn a_host_that_is_gone_is_noticed_by_whoever_talks_to_it() {
    let server = Server::begin();
    let pool = server.dir.path().join("pool");
    std::fs::create_dir(&pool).unwrap();
    let local = connect("qemu:///system").unwrap();
    let xml = format!(
        "<pool type='dir'><name>nixvm-t-gone</name><target><path>{}</path></target></pool>",
        pool.display()
    );
    let _made = Made(local.create_storage_pool_xml(&xml, 0).unwrap());

    let [asks, uploads] = [(), ()].map(|()| connect(&server.uri).unwrap());
    asks.hostname().unwrap();
    let there = uploads.lookup_storage_pool_by_name("nixvm-t-gone").unwrap();
    let volume = "<volume><name>v</name><capacity>1073741824</capacity><allocation>0</allocation></volume>";
    let volume = StorageVol::create_xml(&there, volume, 0).unwrap();
    let stream = Stream::new(&uploads, 0).unwrap();
    volume.upload(&stream, 0, 1 << 30, 0).unwrap();
    stream.send(&[7; 200_000]).unwrap();
    server.vanish();

    let began = Instant::now();
    let (told, hear) = channel();
    let also = told.clone();
    std::thread::spawn(move || told.send(("a call", asks.hostname().is_err())));
    std::thread::spawn(move || {
        let failed = (0..100_000).any(|_| stream.send(&[7; 200_000]).is_err());
        also.send(("an upload", failed))
    });
    for _ in 0..2 {
        let left = NOTICED.saturating_sub(began.elapsed());
        let (what, failed) = hear.recv_timeout(left).expect("it was not noticed");
        println!("{what} failed after {:?}", began.elapsed());
        assert!(failed, "{what}");
    }
    // One that takes connections, and says nothing.
    let began = Instant::now();
    let report = Report::of(&connect_within(&server.uri, Duration::from_secs(3)).unwrap_err());
    assert!(report.causes[0].contains("does not answer within 3 s"), "{report:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
}
