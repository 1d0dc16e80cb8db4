//! Machines start under AppArmor's confinement of QEMU, as Debian, Ubuntu and openSUSE ship it.
//!
//! The tests ask libvirt's own `virt-aa-helper` what it would let QEMU do, for definitions that nixvm renders and real images.
//! Tests that need a running libvirt are in `src/hypervisor/trials/confined.rs`.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "../src/hypervisor/trials/aa_helper.rs"]
mod aa_helper;

use std::path::Path;
use std::process::Command;

use aa_helper::{Profile, program};
use nixvm::hypervisor::Confinement;
use nixvm::model::domain::{Accelerator, Arch, DomainFiles, DomainSpec};
use nixvm::model::record::{Build, BuildHealth, Generations, Metadata};
use nixvm::model::{MachineId, MachineName, Network, Size, Vcpus};
use nixvm::render;

/// Returns whether the image was made: only a host with QEMU has the program.
fn image(folder: &Path, name: &str, on: Option<&str>) -> bool {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2"]);
    if let Some(on) = on {
        command.args(["-b", on, "-F", "qcow2"]);
    }
    let made = command.arg(folder.join(name)).arg("16M").status();
    made.inspect_err(|_| eprintln!("SKIPPED: there is no `qemu-img`")).is_ok_and(|status| status.success())
}

/// A machine on its fourth layer of data, with three snapshots below.
struct Machine {
    reads: Vec<String>,
    writes: Vec<String>,
    xml: String,
}

impl Machine {
    /// Returns a machine whose disks are in this folder; `None` if no image can be made.
    fn new(folder: &Path, network: Network) -> Option<Self> {
        let base = format!("nixvm-base-{}.qcow2", "a".repeat(32));
        std::fs::write(folder.join("web.identity.img"), "secret").unwrap();
        let made = image(folder, &base, None)
            && image(folder, "web.boot-1.qcow2", Some(&base))
            && image(folder, "web.data-1.qcow2", None)
            && (2..=4).all(|layer| {
                image(
                    folder,
                    &format!("web.data-{layer}.qcow2"),
                    Some(&format!("web.data-{}.qcow2", layer - 1)),
                )
            });
        let path = |name: &str| format!("{}/{name}", folder.display());
        let read = [&base, "web.boot-1.qcow2", "web.data-1.qcow2", "web.data-2.qcow2", "web.data-3.qcow2"];
        let files = DomainFiles {
            boot: path("web.boot-1.qcow2"),
            data: path("web.data-4.qcow2"),
            identity: path("web.identity.img"),
            nvram: path("web.nvram.fd"),
            serial_log: path("web.serial.log"),
        };
        let build = Build {
            number: 1,
            profile: "core".parse().unwrap(),
            digest: "0".repeat(64),
            base: base.clone(),
            made: 1,
            health: BuildHealth::Untried,
            nixpkgs: "n".into(),
            kernel: "k".into(),
            also: None,
            fingerprint: None,
            seen: None,
        };
        let name: MachineName = "web".parse().unwrap();
        let spec = DomainSpec {
            machine_id: MachineId::generate(),
            arch: Arch::X86_64,
            accelerator: Accelerator::Tcg,
            memory: Size::DEFAULT_MEMORY,
            vcpus: Vcpus::DEFAULT,
            mac: "52:54:00:12:34:56".parse().unwrap(),
            metadata: Metadata {
                machine: name.clone(),
                workspace: "/w".into(),
                stem: "web".parse().unwrap(),
                ssh_port: (network == Network::User).then_some(2222),
                generations: Generations::first(build),
                snapshots: Vec::new(),
            },
            network,
            files: files.clone(),
            name,
        };
        made.then(|| Machine {
            reads: read.into_iter().map(path).chain([files.identity]).collect(),
            writes: vec![files.data, files.nvram],
            xml: render::domain_xml(&spec).unwrap(),
        })
    }

    /// Returns the files that the profile lacks.
    fn missing(&self, profile: &Profile) -> Vec<String> {
        let reads = self.reads.iter().map(|file| (file, "rk"));
        let all = reads.chain(self.writes.iter().map(|file| (file, "rwk")));
        all.filter(|(file, wanted)| !profile.lets(file, wanted)).map(|(file, _)| file.clone()).collect()
    }
}

#[test]
fn promise_11_qemu_is_let_at_every_file_of_a_machine() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let linked = dir.path().join("linked");
    std::os::unix::fs::symlink(dir.path().join("plain"), &linked).unwrap();
    let networks = [Network::Nat, Network::User, Network::Bridge("br0".parse().unwrap())];
    // If a pool's path contains a link, libvirt keeps the link in the disks' paths.
    for folder in ["plain", "linked", "with a blank", "é, it's # 100% & <odd>"] {
        let folder = dir.path().join(folder);
        if folder != linked {
            std::fs::create_dir(&folder).unwrap();
        }
        for network in networks.clone() {
            let Some(machine) = Machine::new(&folder, network.clone()) else { return };
            let mut profile = Profile::of(&program, &machine.xml).unwrap();
            assert_eq!(machine.missing(&profile), [""; 0], "{network:?} in {}", folder.display());
            // libvirt does the same for a layer or a copy that a running QEMU will write.
            let copy = format!("{}/web.backup.qcow2", folder.display());
            assert!(!profile.lets(&copy, "r"));
            profile.append(&program, &machine.xml, &copy);
            assert!(profile.lets(&copy, "rwk"));
        }
    }
}

/// `create` and `doctor` refuse a pool by nixvm's own list of folders that AppArmor closes to machines.
#[test]
fn a_folder_is_refused_where_libvirt_refuses_it() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(machine) = Machine::new(dir.path(), Network::Nat) else { return };
    let at = dir.path().display().to_string();
    for (folder, refused) in [
        ("/etc/vms", true),
        ("/lib64/vms", true),
        ("/usr/share/vms", true),
        ("/usr/local/lib/vms", true),
        ("/boot", true),
        ("/pool &quot;one&quot;", true),
        ("/usr/local/vms", false),
        ("/var/lib/libvirt/images/nixvm", false),
        ("/srv/a b/é,#(x)", false),
        ("/home/me/vms", false),
    ] {
        let answer = Profile::of(&program, &machine.xml.replace(&at, folder));
        assert_eq!(answer.is_err(), refused, "{folder}: {answer:?}");
        let known = Confinement::AppArmor.refuses(&folder.replace("&quot;", "\""));
        assert_eq!(known.is_some(), refused, "{folder}: {known:?}");
    }
}

/// Shows that the first test above can fail: an earlier nixvm defined disks like this.
#[test]
fn a_disk_that_is_named_as_a_volume_is_left_out() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(machine) = Machine::new(dir.path(), Network::Nat) else { return };
    let before = machine
        .xml
        .replace("<disk type=\"file\"", "<disk type=\"volume\"")
        .replace(&format!("<source file=\"{}/", dir.path().display()), "<source pool=\"nixvm\" volume=\"");
    let profile = Profile::of(&program, &before).unwrap();
    // All files except the firmware's variables, which are no disk.
    assert_eq!(machine.missing(&profile).len(), machine.reads.len() + machine.writes.len() - 1);
}
