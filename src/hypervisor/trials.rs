//! Snapshots, merges and backups tried on a real QEMU: `cargo test --lib hypervisor::trials -- --ignored --nocapture --test-threads 1`.
//!
//! The domain has nixvm's disks and nothing to boot; what a guest would write, QEMU's monitor writes.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{BackupRequest, DATA, Hypervisor, Owned};
use crate::error::{Failure, Report, Result};
use crate::model::domain::DomainState;
use crate::model::{MachineId, MachineName, Progress, Size};

const DEVICE: &str = "/machine/peripheral/virtio-disk1/virtio-backend";

/// A domain with a pool of its own, removed when dropped.
struct Trial {
    name: &'static str,
    hypervisor: Hypervisor,
    dir: tempfile::TempDir,
}

fn run(program: &str, arguments: &[&str]) -> String {
    let ran = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success() && !said.contains("failed"), "{program} {arguments:?}: {ran:?}");
    said
}

fn silent(_: Progress) -> Result<()> {
    Ok(())
}

fn info(path: &str) -> serde_json::Value {
    serde_json::from_str(&run("qemu-img", &["info", "-U", "--output=json", path])).unwrap()
}

impl Trial {
    fn new(name: &'static str) -> Self {
        let dir = tempfile::Builder::new().tempdir_in("/var/lib/libvirt/images").unwrap();
        // QEMU does not run as root.
        run("chmod", &["711", dir.path().to_str().unwrap()]);
        let trial = Trial { name, hypervisor: Hypervisor::open("qemu:///system").unwrap(), dir };
        run("qemu-img", &["create", "-q", "-f", "qcow2", &trial.path("boot"), "16M"]);
        run("qemu-img", &["create", "-q", "-f", "qcow2", &trial.path("data"), "1G"]);
        run("qemu-img", &["create", "-q", "-f", "raw", &trial.path("id"), "1M"]);
        run("virsh", &["-q", "pool-create-as", name, "dir", "--target", trial.dir.path().to_str().unwrap()]);
        trial.define();
        trial
    }

    fn define(&self) {
        let (name, id) = (self.name, MachineId::from_bytes([7; 16]).unwrap());
        let disk = |file: &str, format: &str, target: &str, rest: &str| {
            format!(
                "<disk type='volume' device='disk'><driver name='qemu' type='{format}'/><source pool='{name}' volume='{file}'/>\
                 <target dev='{target}' bus='virtio'/>{rest}</disk>"
            )
        };
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><uuid>{}</uuid><metadata>\
             <n:machine xmlns:n='urn:nixvm:domain:1' name='{name}' workspace='/w' profile='core' generation='1' digest='d'/></metadata>\
             <memory unit='MiB'>256</memory><vcpu>1</vcpu><os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type>\
             <firmware><feature enabled='no' name='enrolled-keys'/><feature enabled='no' name='secure-boot'/></firmware></os>\
             <features><acpi/><apic/></features><cpu mode='maximum'/><devices>{}{}{}\
             <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
             <controller type='usb' model='none'/><video><model type='none'/></video></devices></domain>",
            id.to_uuid(),
            disk("boot", "qcow2", "vda", "<readonly/><serial>nixvm-boot</serial>"),
            disk("data", "qcow2", "vdb", "<serial>nixvm-data</serial>"),
            disk("id", "raw", "vdc", "<readonly/><serial>nixvm-identity</serial>"),
        );
        self.hypervisor.define(&self.machine(), id, &xml).unwrap();
    }

    fn machine(&self) -> MachineName {
        self.name.parse().unwrap()
    }

    fn own(&self) -> Owned {
        self.hypervisor.own(&self.machine()).unwrap()
    }

    fn path(&self, file: &str) -> String {
        self.dir.path().join(file).display().to_string()
    }

    /// Makes an empty image as large as the data disk, and returns its path.
    fn blank(&self, file: &str, size: &str) -> String {
        run("qemu-img", &["create", "-q", "-f", "qcow2", &self.path(file), size]);
        self.path(file)
    }

    fn overlay(&self, file: &str, on: &str) -> String {
        let path = PathBuf::from(self.path(file));
        run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", on, "-F", "qcow2", path.to_str().unwrap()]);
        self.path(file)
    }

    /// Writes `length` bytes of that value to the data disk, as its guest would.
    fn write(&self, value: u8, at: &str, length: &str) {
        // Flushed: what is read from the file beside QEMU is what QEMU has written out.
        for command in [format!("write -P {value} {at} {length}"), "flush".to_owned()] {
            let command = format!("qemu-io -d {DEVICE} \"{command}\"");
            run("virsh", &["-q", "qemu-monitor-command", self.name, "--hmp", &command]);
        }
    }

    fn holds(&self, file: &str, value: u8, at: &str, length: &str) {
        let command = format!("read -P {value} {at} {length}");
        run("qemu-io", &["-U", "-r", "-f", "qcow2", "-c", &command, &self.path(file)]);
    }

    /// Returns the images of the data disk now, and at the next start.
    fn chains(&self) -> (Vec<String>, Option<String>) {
        let owned = self.own();
        let next = owned.disks().unwrap();
        (owned.live_disks().unwrap().disk(DATA).unwrap().chain.clone(), next.volume(DATA).map(str::to_owned))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let owned = self.own();
        let _ = owned.force_off();
        let _ = owned.undefine();
        let _ = Command::new("virsh").args(["-q", "pool-destroy", self.name]).output();
    }
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_running_machine_goes_on_in_an_overlay_and_starts_from_it() {
    let trial = Trial::new("h-hv-switch");
    let owned = trial.own();
    assert!(owned.start().unwrap());
    assert!(!owned.agent_answers());
    assert!(Report::of(&owned.freeze().err().unwrap()).error.starts_with("cannot freeze"));
    trial.write(1, "0", "1M");
    let took = owned.switch_data(&trial.overlay("data-1", "data"), true).unwrap();
    println!("switched in {took:?}, without an agent");
    trial.write(2, "0", "64k");
    assert_eq!(trial.chains(), (vec!["data-1".into(), "data".into()], Some("data-1".into())));
    trial.holds("data", 1, "0", "1M");
    trial.holds("data-1", 2, "0", "64k");
    println!(
        "NVRAM: running {:?}, defined {:?}",
        owned.live_disks().unwrap().nvram,
        owned.disks().unwrap().nvram
    );
    owned.force_off().unwrap();
    owned.start().unwrap();
    assert_eq!(trial.chains(), (vec!["data-1".into(), "data".into()], Some("data-1".into())));
    assert_eq!(info(&trial.path("data-1"))["backing-filename"], "data");
    assert!(owned.switch_data(&trial.path("none"), false).is_err());
    assert_eq!(trial.chains().0.len(), 2);
}

#[test]
#[ignore = "needs qemu:///system"]
fn images_are_merged_while_the_machine_runs() {
    let trial = Trial::new("h-hv-merge");
    let owned = trial.own();
    owned.start().unwrap();
    trial.write(1, "0", "3M");
    for (file, on, value, at) in
        [("data-1", "data", 2, "1M"), ("data-2", "data-1", 3, "2M"), ("data-3", "data-2", 4, "3M")]
    {
        owned.switch_data(&trial.overlay(file, on), false).unwrap();
        trial.write(value, at, "1M");
    }
    assert_eq!(trial.chains().0, ["data-3", "data-2", "data-1", "data"]);

    // One in the middle.
    let mut last = None;
    let keep = &mut |progress| {
        last = Some(progress);
        Ok(())
    };
    owned.commit_data(&trial.path("data-1"), &trial.path("data-2"), keep).unwrap();
    assert_eq!(
        trial.chains(),
        (vec!["data-3".into(), "data-1".into(), "data".into()], Some("data-3".into()))
    );
    assert_eq!(info(&trial.path("data-3"))["backing-filename"], "data-1", "it stays relative");
    println!("in the middle: last seen {last:?}");

    // The one that is written, and all.
    owned.commit_data(&trial.path("data"), &trial.path("data-3"), &mut silent).unwrap();
    assert_eq!(trial.chains(), (vec!["data".into()], Some("data".into())));
    trial.write(5, "4M", "1M");
    for (value, at) in [(1, "0"), (2, "1M"), (3, "2M"), (4, "3M"), (5, "4M")] {
        trial.holds("data", value, at, "1M");
    }
    let gone = owned.commit_data(&trial.path("data"), &trial.path("data-3"), &mut silent);
    assert!(gone.is_err());
    owned.force_off().unwrap();
    owned.start().unwrap();
    assert_eq!(trial.chains().0, ["data"]);
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_merge_that_is_stopped_or_left_behind_changes_nothing_that_is_seen() {
    let trial = Trial::new("h-hv-stop");
    let owned = trial.own();
    owned.start().unwrap();
    owned.switch_data(&trial.overlay("data-1", "data"), false).unwrap();
    trial.write(1, "0", "400M");
    let [base, top] = ["data", "data-1"].map(|file| trial.path(file));
    let enough = || Err(Failure::user("enough").into());
    assert!(owned.commit_data(&base, &top, &mut |_| enough()).is_err());
    assert_eq!(trial.chains(), (vec!["data-1".into(), "data".into()], Some("data-1".into())));
    trial.holds("data-1", 1, "0", "400M");

    // What a nixvm leaves that is killed: a merge that waits for its end.
    crate::libvirt::block_commit(
        &owned.domain,
        "vdb",
        &base,
        &top,
        virt::sys::VIR_DOMAIN_BLOCK_COMMIT_ACTIVE,
    )
    .unwrap();
    let start = Instant::now();
    owned.commit_data(&base, &top, &mut silent).unwrap();
    println!("400 MiB merged in {:?}", start.elapsed());
    assert_eq!(trial.chains(), (vec!["data".into()], Some("data".into())));
    trial.holds("data", 1, "0", "400M");
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_machine_that_is_off_merges_and_never_runs() {
    let trial = Trial::new("h-hv-paused");
    let owned = trial.own();
    owned.start().unwrap();
    owned.switch_data(&trial.overlay("data-1", "data"), false).unwrap();
    trial.write(6, "0", "1M");
    let nvram = owned.live_disks().unwrap().nvram.unwrap();
    owned.force_off().unwrap();
    let before = std::fs::read(&nvram).unwrap();

    let start = Instant::now();
    let paused = owned.paused().unwrap();
    println!("paused after {:?}", start.elapsed());
    assert_eq!(owned.state().unwrap(), DomainState::Paused);
    assert!(owned.paused().is_err());
    owned.commit_data(&trial.path("data"), &trial.path("data-1"), &mut silent).unwrap();
    let registers = run("virsh", &["qemu-monitor-command", trial.name, "--hmp", "info registers"]);
    assert!(registers.contains("EIP=0000fff0") || registers.contains("RIP=000000000000fff0"), "{registers}");
    drop(paused);
    assert_eq!(owned.state().unwrap(), DomainState::Shutoff);
    assert_eq!(std::fs::read(&nvram).unwrap(), before);
    assert_eq!(trial.chains(), (vec!["data".into()], Some("data".into())));
    trial.holds("data", 6, "0", "1M");

    // As when nixvm is killed: the connection ends, and no guard is dropped.
    let other = Hypervisor::open("qemu:///system").unwrap();
    let killed = other.own(&trial.machine()).unwrap();
    std::mem::forget(killed.paused().unwrap());
    assert_eq!(owned.state().unwrap(), DomainState::Paused);
    drop((killed, other));
    let off = owned.wait_until(|state| state == DomainState::Shutoff, Duration::from_secs(10)).unwrap();
    assert_eq!(off, DomainState::Shutoff);
}

#[test]
#[ignore = "needs qemu:///system"]
fn the_data_disk_grows_while_the_machine_runs() {
    let trial = Trial::new("h-hv-grow");
    let owned = trial.own();
    assert!(owned.grow_data(Size::from_bytes(2 << 30)).is_err(), "it is off");
    owned.start().unwrap();
    owned.grow_data(Size::from_bytes(2 << 30)).unwrap();
    assert_eq!(info(&trial.path("data"))["virtual-size"], 2_u64 << 30);
    let smaller = Report::of(&owned.grow_data(Size::from_bytes(1 << 30)).unwrap_err());
    assert_eq!(smaller.causes, ["it has 2147483648 bytes already"]);
    owned.grow_data(Size::from_bytes(2 << 30)).unwrap();
    assert_eq!(info(&trial.path("data"))["virtual-size"], 2_u64 << 30);
}

#[test]
#[ignore = "needs qemu:///system"]
fn backups_show_one_instant_and_increments_the_changes() {
    let trial = Trial::new("h-hv-backup");
    let owned = trial.own();
    owned.start().unwrap();
    trial.write(1, "0", "200M");
    let full = trial.blank("full", "1G");
    let request = BackupRequest { path: &full, since: None, checkpoint: Some("one") };
    let start = Instant::now();
    let mut steps = Vec::new();
    let stood = owned
        .backup_data(request, &mut |progress| {
            if steps.is_empty() {
                trial.write(2, "0", "100M");
            }
            steps.push(progress);
            Ok(())
        })
        .unwrap();
    println!("200 MiB copied in {:?}, stood {stood:?}, {steps:?}", start.elapsed());
    trial.holds("full", 1, "0", "200M");
    println!("{}", run("ls", &["-l", &full]));
    assert_eq!(owned.checkpoints().unwrap(), ["one"]);

    trial.write(3, "300M", "64k");
    let more = trial.blank("more", "1G");
    let since = BackupRequest { path: &more, since: Some("one"), checkpoint: Some("two") };
    owned.backup_data(since, &mut silent).unwrap();
    println!("increment: {}", info(&more));
    trial.holds("more", 3, "300M", "64k");
    assert_eq!(owned.checkpoints().unwrap(), ["one", "two"]);

    let stopped = BackupRequest { path: &trial.blank("no", "1G"), since: None, checkpoint: None };
    assert!(owned.backup_data(stopped, &mut |_| Err(Failure::user("enough").into())).is_err());
    assert!(!owned.end_backup().unwrap());
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_checkpoint_outlives_all_but_a_crash() {
    let trial = Trial::new("h-hv-points");
    let owned = trial.own();
    let copy = |file: &str, size: &str, since: Option<&str>, checkpoint: Option<&str>| {
        let path = trial.blank(file, size);
        owned.backup_data(BackupRequest { path: &path, since, checkpoint }, &mut silent)
    };
    let mebibytes = |file: &str| {
        let map = run("qemu-img", &["map", "-U", "--output=json", &trial.path(file)]);
        let map: Vec<serde_json::Value> = serde_json::from_str(&map).unwrap();
        let data = map.iter().filter(|part| part["data"] == true);
        data.map(|part| part["length"].as_u64().unwrap()).sum::<u64>() >> 20
    };
    owned.start().unwrap();
    trial.write(1, "0", "1M");
    copy("full", "1G", None, Some("one")).unwrap();
    trial.write(2, "1M", "1M");
    owned.switch_data(&trial.overlay("data-1", "data"), false).unwrap();
    trial.write(3, "2M", "1M");
    copy("a", "1G", Some("one"), None).unwrap();
    assert_eq!(mebibytes("a"), 2, "over a switch");

    owned.force_off().unwrap();
    assert_eq!(owned.checkpoints().unwrap(), ["one"]);
    owned.start().unwrap();
    trial.write(4, "3M", "1M");
    copy("b", "1G", Some("one"), Some("two")).unwrap();
    assert_eq!(mebibytes("b"), 3, "over a stop");

    owned.commit_data(&trial.path("data"), &trial.path("data-1"), &mut silent).unwrap();
    trial.write(5, "4M", "1M");
    copy("c", "1G", Some("one"), None).unwrap();
    copy("d", "1G", Some("two"), None).unwrap();
    // Since the second, only the last has changed; QEMU may take the merge for changes too.
    println!("over a merge: {} MiB since one, {} MiB since two", mebibytes("c"), mebibytes("d"));
    trial.holds("c", 5, "4M", "1M");
    trial.holds("d", 5, "4M", "1M");

    owned.grow_data(Size::from_bytes(2 << 30)).unwrap();
    trial.write(6, "1500M", "1M");
    copy("e", "2G", Some("two"), None).unwrap();
    trial.holds("e", 6, "1500M", "1M");

    owned.force_off().unwrap();
    trial.define();
    assert_eq!(owned.checkpoints().unwrap(), ["one", "two"]);
    assert!(owned.delete_checkpoint("one").is_err(), "it is off");
    owned.start().unwrap();
    copy("f", "2G", Some("one"), None).unwrap();

    // QEMU is killed, as by a power cut: it had its notes in memory.
    let pid = std::fs::read_to_string(format!("/run/libvirt/qemu/{}.pid", trial.name)).unwrap();
    run("kill", &["-9", pid.trim()]);
    owned.wait_until(|state| !state.is_active(), Duration::from_secs(10)).unwrap();
    owned.start().unwrap();
    assert!(copy("g", "2G", Some("two"), None).is_err());
    copy("h", "2G", None, Some("three")).unwrap();
    assert!(owned.delete_checkpoint("one").unwrap());
    assert!(!owned.delete_checkpoint("one").unwrap());
    assert!(owned.delete_checkpoint("two").unwrap());
    copy("i", "2G", Some("three"), None).unwrap();
    assert_eq!(owned.checkpoints().unwrap(), ["three"]);
}

/// A guest that runs: `NIXVM_TRIAL_MACHINE=NAME`. Its data disk goes on in an overlay and back.
#[test]
#[ignore = "needs a running machine of nixvm's, named by NIXVM_TRIAL_MACHINE"]
fn a_guest_with_an_agent_stands_still_for_a_moment() {
    let name = std::env::var("NIXVM_TRIAL_MACHINE").unwrap();
    let hypervisor = Hypervisor::open("qemu:///system").unwrap();
    let owned = hypervisor.own(&name.parse().unwrap()).unwrap();
    let shell = |script: &str| owned.agent_run(&["/bin/sh", "-c", script], Duration::from_secs(60)).unwrap();
    assert!(owned.agent_answers());
    let output = shell("echo out; echo err >&2; exit 7");
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (7, "out\n", "err\n"));
    assert_eq!(shell("kill -9 $$").code, 137);
    assert!(owned.agent_run(&["/no/such/program"], Duration::from_secs(5)).is_err());
    let start = Instant::now();
    assert!(owned.agent_run(&["/bin/sh", "-c", "sleep 20"], Duration::from_secs(2)).is_err());
    assert!(start.elapsed() < Duration::from_secs(10));

    assert_eq!(owned.is_frozen(), Some(false));
    let frozen = owned.freeze().unwrap();
    assert_eq!(owned.is_frozen(), Some(true));
    println!("frozen for {:?}", frozen.thaw().unwrap());
    drop(owned.freeze().unwrap());
    assert_eq!(owned.is_frozen(), Some(false));
    owned.thaw().unwrap();

    // A writer that says when it wrote; the longest gap is what the guest notices.
    let writer = |act: &mut dyn FnMut()| {
        shell(
            "bash -c 'end=$((EPOCHSECONDS + 10)); while ((EPOCHSECONDS < end)); do echo $EPOCHREALTIME; done' >/var/trial 2>&1 &",
        );
        std::thread::sleep(Duration::from_secs(3));
        act();
        std::thread::sleep(Duration::from_secs(9));
        let gap = "{ if (l && $1 - l > g) g = $1 - l; l = $1 } END { print NR, \"writes, longest gap\", int(g * 1000), \"ms\" }";
        println!("{}", shell(&format!("awk '{gap}' /var/trial; rm /var/trial")).stdout.trim());
    };
    writer(&mut || println!("nothing done"));

    let data = owned.disks().unwrap().volume(DATA).unwrap().to_owned();
    let path = run("virsh", &["-q", "domblklist", &name]);
    let path = path.lines().find_map(|line| line.split_whitespace().last().filter(|_| line.contains("vdb")));
    let base = match path {
        Some(path) if path.starts_with('/') => path.to_owned(),
        _ => format!("/var/lib/libvirt/images/{}/{data}", std::env::var("NIXVM_POOL").unwrap()),
    };
    let top = format!("{base}.trial");
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-u", "-b", &data, "-F", "qcow2", &top, "4G"]);
    writer(&mut || println!("switched with quiesce in {:?}", owned.switch_data(&top, true).unwrap()));
    writer(&mut || println!("merged: {:?}", owned.commit_data(&base, &top, &mut silent).unwrap()));
    std::fs::remove_file(&top).unwrap();
    let copy = format!("{base}.copy");
    run("qemu-img", &["create", "-q", "-f", "qcow2", &copy, "4G"]);
    let request = BackupRequest { path: &copy, since: None, checkpoint: None };
    writer(&mut || {
        let start = Instant::now();
        let stood = owned.backup_data(request, &mut silent).unwrap();
        println!("copied in {:?}, stood {stood:?}", start.elapsed());
    });
    std::fs::remove_file(&copy).unwrap();
}
