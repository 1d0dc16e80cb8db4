//! The machine of these tests: it cannot boot, and its data lies in layers.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use crate::sandbox::{Ended, Sandbox};

const URI: &str = "qemu:///system";
pub(super) const NAME: &str = "foreign-web";
const POOL: &str = "foreign-pool";
const DATA: &str = "/machine/peripheral/virtio-disk1/virtio-backend";

/// A machine in its own pool, on two layers of data; its snapshot `first` keeps the lower one. Dropping it removes both.
pub(super) struct Machine {
    pub(super) sandbox: Sandbox,
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// Held by the test whose machine exists, because all tests use one name.
static TURN: Mutex<()> = Mutex::new(());

pub(super) fn run(program: &str, arguments: &[&str]) -> String {
    let ran = Command::new(program).args(arguments).output().unwrap();
    assert!(ran.status.success(), "{program} {arguments:?}: {ran:?}");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(!said.contains("failed"), "{program} {arguments:?}: {said}");
    said
}

pub(super) fn virsh(arguments: &[&str]) -> String {
    run("virsh", &[&["-q", "-c", URI], arguments].concat())
}

impl Machine {
    pub(super) fn new() -> Self {
        let sandbox = Sandbox::new();
        let folder = tempfile::Builder::new().tempdir_in("/var/lib/libvirt/images").unwrap();
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let machine = Machine { sandbox, folder, _turn };
        let key = "../home/key.pub";
        let made = machine.sandbox.run(&[
            "create",
            NAME,
            "--memory",
            "256M",
            "--vcpus",
            "1",
            "--var-size",
            "1G",
            "--network",
            "user",
            "--no-build",
            "--keys",
            key,
        ]);
        assert_eq!(made.code, 0, "{made:?}");
        let says = |file: &str, text: &str| {
            machine.sandbox.write(&format!("machines/{NAME}/{file}"), format!("{text}\n"))
        };
        says("connection", URI);
        says("pool", POOL);
        // QEMU does not run as root.
        run("chmod", &["711", machine.folder.path().to_str().unwrap()]);
        virsh(&["pool-create-as", POOL, "dir", "--target", machine.folder.path().to_str().unwrap()]);
        machine.image("base", None, "16M");
        machine.image(&format!("{NAME}.boot-1.qcow2"), Some("base"), "16M");
        machine.image(&machine.layer(1), None, "1G");
        machine.image(&machine.layer(2), Some(&machine.layer(1)), "1G");
        run("qemu-img", &["create", "-q", "-f", "raw", &machine.path(&format!("{NAME}.identity.img")), "1M"]);
        virsh(&["pool-refresh", POOL]);
        machine.define();
        machine
    }

    fn define(&self) {
        let uuid = std::fs::read_to_string(self.sandbox.path(&format!("machines/{NAME}/uuid"))).unwrap();
        let disk = |file: &str, format: &str, target: &str, serial: &str| {
            format!(
                "<disk type='file' device='disk'><driver name='qemu' type='{format}'/><source file='{}'/>\
                 <target dev='{target}' bus='virtio'/>{}<serial>nixvm-{serial}</serial></disk>",
                self.path(file),
                if serial == "data" { "" } else { "<readonly/>" },
            )
        };
        let xml = format!(
            "<domain type='qemu'><name>{NAME}</name><uuid>{}</uuid><metadata><n:machine xmlns:n='urn:nixvm:domain:1' name='{NAME}' \
             workspace='{}' volumes='{NAME}' generation='1'><n:generation number='1' profile='core' digest='d' base='base' made='1' \
             health='untried' nixpkgs='n' kernel='k'/><n:snapshot name='first' taken='1' layer='1' nvram='no' generation='1' \
             consistent='yes'/></n:machine></metadata><memory unit='MiB'>256</memory><os firmware='efi'>\
             <type arch='x86_64' machine='q35'>hvm</type><nvram>{}</nvram></os><features><acpi/><apic/></features><devices>{}{}{}<controller type='usb' model='none'/>\
             <video><model type='none'/></video></devices></domain>",
            uuid.trim(),
            self.sandbox.path("").canonicalize().unwrap().display(),
            self.path(&format!("{NAME}.nvram.fd")),
            disk(&format!("{NAME}.boot-1.qcow2"), "qcow2", "vda", "boot"),
            disk(&self.layer(2), "qcow2", "vdb", "data"),
            disk(&format!("{NAME}.identity.img"), "raw", "vdc", "identity"),
        );
        self.sandbox.write("../domain.xml", xml);
        virsh(&["define", self.sandbox.path("../domain.xml").to_str().unwrap()]);
    }

    pub(super) fn layer(&self, number: u32) -> String {
        format!("{NAME}.data-{number}.qcow2")
    }

    pub(super) fn path(&self, file: &str) -> String {
        self.folder.path().join(file).display().to_string()
    }

    pub(super) fn image(&self, file: &str, on: Option<&str>, size: &str) {
        let path = self.path(file);
        let on = on.map_or(Vec::new(), |on| vec!["-b", on, "-F", "qcow2"]);
        run("qemu-img", &[&["create", "-q", "-f", "qcow2"], &on[..], &[&path, size]].concat());
    }

    fn nixvm(&self, arguments: &[&str]) -> Ended {
        let mut command = self.sandbox.command(arguments);
        command.env("NIXVM_CONNECT", URI);
        self.sandbox.ended(&mut command)
    }

    pub(super) fn ok(&self, arguments: &[&str]) -> Ended {
        let ended = self.nixvm(arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended
    }

    /// Runs a command that must be refused with these words and change neither the definition nor a file of the pool. Returns
    /// the commands of virsh and qemu-img in its hint.
    pub(super) fn refused(&self, arguments: &[&str], words: &[&str]) -> Vec<String> {
        let facts = || {
            let mut files: Vec<_> = std::fs::read_dir(self.folder.path())
                .unwrap()
                .map(|file| (file.as_ref().unwrap().file_name(), file.unwrap().metadata().unwrap().len()))
                .collect();
            files.sort();
            (self.xml(), files, self.sandbox.snapshot())
        };
        let before = facts();
        let ended = self.nixvm(arguments);
        assert_eq!(ended.code, 1, "{arguments:?}: {ended:?}");
        for word in words {
            assert!(ended.stderr.contains(word), "{arguments:?}: no `{word}` in {}", ended.stderr);
        }
        assert!(before == facts(), "{arguments:?} changed something");
        let hint = ended.stderr.split_once("hint: ").unwrap().1;
        let commands = hint.split('`').skip(1).step_by(2);
        commands.filter(|c| c.starts_with("virsh") || c.starts_with("qemu-img")).map(str::to_owned).collect()
    }

    /// Returns the definition for the next start.
    pub(super) fn xml(&self) -> String {
        virsh(&["dumpxml", "--inactive", "--security-info", NAME])
    }

    /// Changes the definition as `virsh edit` does.
    pub(super) fn edit(&self, changes: &[(&str, &str)]) {
        let mut xml = self.xml();
        for (from, to) in changes {
            assert!(xml.contains(from), "no `{from}` in {xml}");
            xml = xml.replacen(from, to, 1);
        }
        self.sandbox.write("../edited.xml", xml);
        virsh(&["define", "--validate", self.sandbox.path("../edited.xml").to_str().unwrap()]);
    }

    /// Writes 64 KiB of that value to the data disk, as its guest would.
    pub(super) fn write(&self, value: u8) {
        for command in [format!("write -P {value} {value}M 64k"), "flush".to_owned()] {
            virsh(&["qemu-monitor-command", NAME, "--hmp", &format!("qemu-io -d {DATA} \"{command}\"")]);
        }
    }

    /// Checks that the layer contains the written values.
    pub(super) fn holds(&self, layer: u32, values: &[u8]) {
        for value in values {
            let command = format!("read -P {value} {value}M 64k");
            run("qemu-io", &["-U", "-r", "-f", "qcow2", "-c", &command, &self.path(&self.layer(layer))]);
        }
    }

    pub(super) fn is_on(&self, layer: u32) {
        let path = self.path(&self.layer(layer));
        assert!(self.xml().contains(&format!("<source file='{path}'")), "not on {path}:\n{}", self.xml());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for arguments in [
            &["destroy", NAME][..],
            &[
                "undefine",
                NAME,
                "--nvram",
                "--snapshots-metadata",
                "--checkpoints-metadata",
                "--managed-save",
            ],
            &["pool-destroy", POOL],
        ] {
            let _ = Command::new("virsh").args(["-q", "-c", URI]).args(arguments).output();
        }
    }
}

/// Runs a command line that a hint printed.
pub(super) fn shell(command: &str) {
    run("sh", &["-c", command]);
}
