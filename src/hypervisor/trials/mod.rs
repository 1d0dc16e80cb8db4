//! Snapshots, merges and backups tried on a real QEMU: `cargo test --lib hypervisor::trials -- --ignored --nocapture --test-threads 1`.
//!
//! The domain has nixvm's disks and nothing to boot; what a guest would write, QEMU's monitor writes.

mod aa_helper;
mod backups;
mod confined;
mod guest;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{DATA, Hypervisor, Owned};
use crate::error::{Failure, Report, Result};
use crate::model::domain::{Accelerator, DomainState};
use crate::model::{MachineId, MachineName, Progress, Size};

const DEVICE: &str = "/machine/peripheral/virtio-disk1/virtio-backend";

/// A domain with a pool of its own, removed when dropped.
struct Trial {
    name: &'static str,
    id: MachineId,
    hypervisor: Hypervisor,
    dir: tempfile::TempDir,
}

fn run(program: &str, arguments: &[&str]) -> String {
    let ran = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success() && !said.contains("failed"), "{program} {arguments:?}: {ran:?}");
    said
}

/// Waits until `reached` holds for the domain's state, ten seconds at most, and returns the last state seen.
fn wait_until(machine: &Owned, reached: impl Fn(DomainState) -> bool) -> DomainState {
    let start = Instant::now();
    loop {
        let state = machine.state().unwrap();
        if reached(state) || start.elapsed() > Duration::from_secs(10) {
            return state;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
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
        let trial = Trial {
            name,
            id: MachineId::generate(),
            hypervisor: Hypervisor::open("qemu:///system").unwrap(),
            dir,
        };
        run("qemu-img", &["create", "-q", "-f", "qcow2", &trial.path("base"), "16M"]);
        trial.overlay("boot", "base");
        run("qemu-img", &["create", "-q", "-f", "qcow2", &trial.path("data"), "1G"]);
        run("qemu-img", &["create", "-q", "-f", "raw", &trial.path("id"), "1M"]);
        run("virsh", &["-q", "pool-create-as", name, "dir", "--target", trial.dir.path().to_str().unwrap()]);
        trial.define();
        trial
    }

    fn define(&self) {
        self.define_on("file", |file| format!("file='{}'", self.path(file)));
    }

    /// Defines the domain with disks of that type, whose sources have the attributes that `source` gives for a file's name.
    fn define_on(&self, kind: &str, source: impl Fn(&str) -> String) {
        let (name, id) = (self.name, self.id);
        let disk = |file: &str, format: &str, target: &str, rest: &str| {
            format!(
                "<disk type='{kind}' device='disk'><driver name='qemu' type='{format}'/><source {}/>\
                 <target dev='{target}' bus='virtio'/>{rest}</disk>",
                source(file)
            )
        };
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><uuid>{}</uuid><metadata>\
             <n:machine xmlns:n='urn:nixvm:domain:1' name='{name}' workspace='/w' volumes='{name}' generation='1'>\
             <n:generation number='1' profile='core' digest='d' base='b' made='1' health='untried' nixpkgs='n' kernel='k'/></n:machine></metadata>\
             <memory unit='MiB'>256</memory><vcpu>1</vcpu><os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type>\
             <firmware><feature enabled='no' name='enrolled-keys'/><feature enabled='no' name='secure-boot'/></firmware><nvram>{}</nvram></os>\
             <features><acpi/><apic/></features><cpu mode='maximum'/><devices>{}{}{}\
             <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
             <controller type='usb' model='none'/><video><model type='none'/></video></devices></domain>",
            id.to_uuid(),
            self.path("nvram"),
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
fn a_machine_that_was_defined_again_while_it_runs_starts_from_the_overlay_too() {
    let trial = Trial::new("h-snap-again");
    let owned = trial.own();
    owned.start().unwrap();
    // As an upgrade does it: the definition names a volume in a pool, what runs a file.
    trial.define();
    owned.switch_data(&trial.overlay("data-1", "data"), false).unwrap();
    assert_eq!(trial.chains(), (vec!["data-1".into(), "data".into()], Some("data-1".into())));
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
    assert!(owned.switch_data(&trial.overlay("data-2", "data-1"), false).is_err());
    let start = Instant::now();
    owned.commit_data(&base, &top, &mut silent).unwrap();
    println!("400 MiB merged in {:?}", start.elapsed());
    assert_eq!(trial.chains(), (vec!["data".into()], Some("data".into())));
    trial.holds("data", 1, "0", "400M");
    assert!(!owned.end_merge().unwrap());
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
    let off = wait_until(&owned, |state| state == DomainState::Shutoff);
    assert_eq!(off, DomainState::Shutoff);
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_saved_machine_is_told_from_one_that_is_off() {
    let trial = Trial::new("h-hv-saved");
    let owned = trial.own();
    let listed = || {
        let domains = trial.hypervisor.domains().unwrap();
        domains.into_iter().find(|domain| domain.name == trial.name).unwrap().state
    };
    owned.start().unwrap();
    run("virsh", &["managedsave", trial.name]);
    assert_eq!((owned.state().unwrap(), listed()), (DomainState::Saved, DomainState::Saved));
    owned.start().unwrap();
    assert_eq!((owned.state().unwrap(), listed()), (DomainState::Running, DomainState::Running));
    run("virsh", &["managedsave", trial.name]);
    owned.discard_saved_memory().unwrap();
    assert_eq!((owned.state().unwrap(), listed()), (DomainState::Shutoff, DomainState::Shutoff));
    assert!(owned.discard_saved_memory().is_err());
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
fn an_image_is_copied_beside_a_guest_that_runs_on_it() {
    let trial = Trial::new("h-hv-copy");
    let owned = trial.own();
    owned.start().unwrap();
    trial.write(1, "0", "300M");
    owned.switch_data(&trial.overlay("data-1", "data"), false).unwrap();
    trial.write(2, "1M", "1M");
    owned.switch_data(&trial.overlay("data-2", "data-1"), false).unwrap();
    trial.write(3, "2M", "1M");

    let to = trial.blank("copy", "1G");
    let start = Instant::now();
    let copy = |from: &str, to: &str, progress: &mut dyn FnMut(Progress) -> Result<()>| {
        trial.hypervisor.copy_image(Accelerator::Tcg, &trial.path(from), to, progress)
    };
    copy("data-1", &to, &mut silent).unwrap();
    println!("300 MiB copied in {:?}", start.elapsed());
    for (value, at) in [(1, "0"), (2, "1M"), (1, "2M"), (1, "3M")] {
        trial.holds("copy", value, at, "1M");
    }
    assert_eq!(info(&to)["backing-filename"], serde_json::Value::Null);

    let enough: &mut dyn FnMut(Progress) -> Result<()> = &mut |_| Err(Failure::user("enough").into());
    let stopped = Report::of(&copy("data-1", &trial.blank("no", "1G"), enough).unwrap_err());
    assert_eq!(stopped.causes, ["enough"]);
    assert!(copy("data-1", &trial.path("missing"), &mut silent).is_err());
    let names = trial.hypervisor.domains().unwrap().into_iter().map(|domain| domain.name);
    assert_eq!(names.filter(|name| name.starts_with("nixvm-copy")).count(), 0);

    // The guest still writes, starts and merges.
    trial.write(4, "3M", "1M");
    owned.force_off().unwrap();
    owned.start().unwrap();
    owned.commit_data(&trial.path("data"), &trial.path("data-2"), &mut silent).unwrap();
    trial.holds("data", 4, "3M", "1M");
}
