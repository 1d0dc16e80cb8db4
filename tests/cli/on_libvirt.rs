//! Whole verbs on the real libvirt, with a machine that has nothing to boot: `cargo test --test cli on_libvirt -- --ignored`.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use crate::sandbox::{Ended, Sandbox};

const URI: &str = "qemu:///system";
const NAME: &str = "foreign-web";
const POOL: &str = "foreign-pool";
const DATA: &str = "/machine/peripheral/virtio-disk1/virtio-backend";

/// A machine on two layers of data, the lower one kept by its snapshot `first`, in a pool of its own; removed when dropped.
struct Machine {
    sandbox: Sandbox,
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// Held by the test whose machine there is.
static TURN: Mutex<()> = Mutex::new(());

fn run(program: &str, arguments: &[&str]) -> String {
    let ran = Command::new(program).args(arguments).output().unwrap();
    assert!(ran.status.success(), "{program} {arguments:?}: {ran:?}");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(!said.contains("failed"), "{program} {arguments:?}: {said}");
    said
}

fn virsh(arguments: &[&str]) -> String {
    run("virsh", &[&["-q", "-c", URI], arguments].concat())
}

impl Machine {
    fn new() -> Self {
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

    fn layer(&self, number: u32) -> String {
        format!("{NAME}.data-{number}.qcow2")
    }

    fn path(&self, file: &str) -> String {
        self.folder.path().join(file).display().to_string()
    }

    fn image(&self, file: &str, on: Option<&str>, size: &str) {
        let path = self.path(file);
        let on = on.map_or(Vec::new(), |on| vec!["-b", on, "-F", "qcow2"]);
        run("qemu-img", &[&["create", "-q", "-f", "qcow2"], &on[..], &[&path, size]].concat());
    }

    fn nixvm(&self, arguments: &[&str]) -> Ended {
        let mut command = self.sandbox.command(arguments);
        command.env("NIXVM_CONNECT", URI);
        self.sandbox.ended(&mut command)
    }

    fn ok(&self, arguments: &[&str]) -> Ended {
        let ended = self.nixvm(arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended
    }

    /// Runs a command that is refused with these words and changes neither the definition nor a file of the pool; returns the
    /// commands of virsh and qemu-img in its hint.
    fn refused(&self, arguments: &[&str], words: &[&str]) -> Vec<String> {
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
    fn xml(&self) -> String {
        virsh(&["dumpxml", "--inactive", "--security-info", NAME])
    }

    /// Changes the definition as `virsh edit` does.
    fn edit(&self, changes: &[(&str, &str)]) {
        let mut xml = self.xml();
        for (from, to) in changes {
            assert!(xml.contains(from), "no `{from}` in {xml}");
            xml = xml.replacen(from, to, 1);
        }
        self.sandbox.write("../edited.xml", xml);
        virsh(&["define", "--validate", self.sandbox.path("../edited.xml").to_str().unwrap()]);
    }

    /// Writes 64 KiB of that value to the data disk, as its guest would.
    fn write(&self, value: u8) {
        for command in [format!("write -P {value} {value}M 64k"), "flush".to_owned()] {
            virsh(&["qemu-monitor-command", NAME, "--hmp", &format!("qemu-io -d {DATA} \"{command}\"")]);
        }
    }

    /// Checks that the layer shows what was written.
    fn holds(&self, layer: u32, values: &[u8]) {
        for value in values {
            let command = format!("read -P {value} {value}M 64k");
            run("qemu-io", &["-U", "-r", "-f", "qcow2", "-c", &command, &self.path(&self.layer(layer))]);
        }
    }

    fn is_on(&self, layer: u32) {
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

fn shell(command: &str) {
    run("sh", &["-c", command]);
}

#[test]
#[ignore = "needs qemu:///system"]
fn promise_15_the_way_back_from_another_tools_snapshot_loses_nothing() {
    let machine = Machine::new();
    machine.ok(&["start", NAME]);
    machine.write(1);
    let words =
        ["the disk vdb of foreign-web is", "which is not nixvm's; nothing was changed", "loses nothing"];
    let take = |name: &str, more: &[&str]| {
        virsh(&[&["snapshot-create-as", NAME, name, "--disk-only"], more].concat());
    };

    // While it runs, two of them.
    take("by hand", &[]);
    machine.write(2);
    take("s2", &[]);
    machine.write(3);
    for verb in [&["snapshot", NAME][..], &["reboot", NAME], &["backup", NAME], &["recreate", NAME, "--yes"]]
    {
        machine.refused(verb, &words);
    }
    machine.refused(&["start", NAME], &words).iter().for_each(|command| shell(command));
    machine.is_on(2);
    machine.holds(2, &[1, 2, 3]);

    // One that libvirt keeps no record of.
    take("s3", &["--no-metadata"]);
    machine.write(4);
    machine.refused(&["start", NAME], &words).iter().for_each(|command| shell(command));
    machine.is_on(2);
    machine.holds(2, &[1, 2, 3, 4]);

    // Off, with and without libvirt's record.
    take("s4", &[]);
    machine.write(5);
    machine.ok(&["force-stop", NAME]);
    machine.refused(&["start", NAME], &words).iter().for_each(|command| shell(command));
    machine.is_on(2);
    machine.holds(2, &[1, 2, 3, 4, 5]);
    machine.ok(&["start", NAME]);
    take("s5", &["--no-metadata"]);
    machine.write(6);
    machine.ok(&["force-stop", NAME]);
    let [commit, edit] =
        <[String; 2]>::try_from(machine.refused(&["start", NAME], &["qemu-img commit"])).unwrap();
    shell(&commit);
    let [from, to] = [format!("{NAME}.data-2.s5"), machine.layer(2)].map(|file| machine.path(&file));
    shell(&format!("EDITOR=\"sed -i 's|{from}|{to}|'\" {edit}"));
    machine.ok(&["start", NAME]);
    machine.is_on(2);
    machine.holds(2, &[1, 2, 3, 4, 5, 6]);
    // The snapshot below is what it was.
    let untouched = run(
        "qemu-io",
        &["-U", "-r", "-f", "qcow2", "-c", "read -P 0 0 8M", &machine.path(&machine.layer(1))],
    );
    assert!(untouched.contains("read 8388608"), "{untouched}");
    machine.ok(&["snapshot", NAME]);

    // A deletion is of all that is the machine's, and says what is not.
    take("s6", &[]);
    let image = machine.path(&format!("{NAME}.data-3.s6"));
    let gone = machine.ok(&["destroy", NAME, "--yes"]);
    assert!(
        gone.stderr.contains(&format!("`{image}`, which another tool had {NAME} write to, stays")),
        "{gone:?}"
    );
    assert!(std::fs::exists(&image).unwrap() && !std::fs::exists(machine.path(&machine.layer(2))).unwrap());
    assert!(!virsh(&["list", "--all", "--name"]).contains(NAME));
}

#[test]
#[ignore = "needs qemu:///system"]
fn promise_15_a_merge_by_hand_into_a_snapshot_is_found_and_the_snapshot_given_up() {
    let machine = Machine::new();
    machine.ok(&["start", NAME]);
    machine.write(1);
    // Without `--base` and `--shallow` it goes down to the lowest layer.
    virsh(&["snapshot-create-as", NAME, "s", "--disk-only", "--no-metadata"]);
    virsh(&["blockcommit", NAME, "vdb", "--active", "--pivot"]);
    machine.is_on(1);
    machine.refused(
        &["snapshot", NAME],
        &["which its snapshot first keeps", "delete-snapshot foreign-web first"],
    );
    machine.ok(&["delete-snapshot", NAME, "first", "--yes"]);
    machine.ok(&["snapshot", NAME, "again"]);
    machine.holds(1, &[1]);
    machine.is_on(3);
}

#[test]
#[ignore = "needs qemu:///system"]
fn promise_15_another_tools_checkpoints_and_internal_snapshots_are_not_made_useless() {
    let machine = Machine::new();
    virsh(&["snapshot-create-as", NAME, "inside"]);
    for verb in [
        &["snapshot", NAME][..],
        &["recreate", NAME, "--yes"],
        &["restore-snapshot", NAME, "first", "--yes"],
        &["rename", NAME, "foreign-shop"],
    ] {
        machine.refused(verb, &["another tool took snapshots", "snapshot-delete foreign-web inside"]);
    }
    machine.ok(&["start", NAME]);
    machine.ok(&["force-stop", NAME]);
    machine
        .refused(&["snapshot", NAME], &["another tool took snapshots"])
        .iter()
        .for_each(|command| shell(command));

    machine.ok(&["start", NAME]);
    let none = ["--diskspec", "vda,checkpoint=no", "--diskspec", "vdc,checkpoint=no", "--diskspec", "vdb"];
    virsh(&[&["checkpoint-create-as", NAME, "virtnbdbackup.0"], &none[..]].concat());
    machine.ok(&["snapshot", NAME, "while-it-runs"]);
    assert!(virsh(&["checkpoint-list", NAME]).contains("virtnbdbackup.0"));
    machine.ok(&["force-stop", NAME]);
    for verb in [
        &["snapshot", NAME][..],
        &["rename", NAME, "foreign-shop"],
        &["recreate", NAME, "--yes"],
        &["restore-snapshot", NAME, "first", "--yes"],
    ] {
        let list = "`virsh -c qemu:///system checkpoint-list foreign-web`";
        machine.refused(verb, &["another tool made checkpoints of foreign-web", list]);
    }
    let commands = machine.refused(&["snapshot", NAME], &[]);
    commands
        .iter()
        .filter(|command| command.contains("checkpoint-delete"))
        .for_each(|command| shell(command));
    machine.ok(&["snapshot", NAME]);
}

#[test]
#[ignore = "needs qemu:///system"]
fn promise_15_what_somebody_changed_by_hand_stays_or_is_told() {
    let machine = Machine::new();
    // From here on the definition is nixvm's own.
    machine.ok(&["start", NAME]);
    machine.ok(&["force-stop", NAME]);
    let first = machine.xml();
    let again = machine.ok(&["start", NAME]);
    assert!(!again.stderr.contains("by hand"), "{again:?}");
    machine.ok(&["force-stop", NAME]);
    assert_eq!(machine.xml(), first, "a definition that nobody changed is what it was");

    // Added and tuned.
    machine.image("mine", None, "1M");
    let mine = machine.path("mine");
    let device = |name: &str, xml: &str| {
        machine.sandbox.write(&format!("../{name}.xml"), xml);
        let file = machine.sandbox.path(&format!("../{name}.xml")).display().to_string();
        virsh(&["attach-device", NAME, &file, "--config"]);
    };
    virsh(&[
        "attach-disk",
        NAME,
        &mine,
        "vdd",
        "--config",
        "--targetbus",
        "virtio",
        "--serial",
        "mine",
        "--driver",
        "qemu",
        "--subdriver",
        "qcow2",
    ]);
    device(
        "card",
        "<interface type='user'><mac address='52:54:00:aa:bb:cc'/><model type='virtio'/></interface>",
    );
    device("sound", "<sound model='ac97'/>");
    virsh(&["desc", NAME, "--config", "my <own> words"]);
    virsh(&["desc", NAME, "--config", "--title", "mine"]);
    virsh(&[
        "metadata",
        NAME,
        "--config",
        "--uri",
        "http://example.org/x",
        "--key",
        "x",
        "--set",
        "<info a='1'>me &amp; you</info>",
    ]);
    virsh(&["schedinfo", NAME, "--config", "cpu_shares=512"]);
    virsh(&["vcpupin", NAME, "0", "0", "--config"]);
    virsh(&["iothreadadd", NAME, "1", "--config"]);
    virsh(&["blkdeviotune", NAME, "vdb", "--total-iops-sec", "1000", "--config"]);
    machine.edit(&[
        (
            "<cpu mode='maximum' check='none'/>",
            "<cpu mode='maximum' check='none'><cache mode='emulate' level='3'/></cpu>",
        ),
        ("<os ", "<memoryBacking><nosharepages/></memoryBacking><os "),
        ("discard=", "cache='none' discard="),
        (
            "<controller type='usb' index='0' model='none'/>",
            "<controller type='usb' index='0' model='qemu-xhci'/>",
        ),
        ("<input type='mouse'", "<input type='tablet' bus='usb'/><input type='mouse'"),
        ("<model type='none'/>", "<model type='vga'/>"),
        ("</devices>", "<graphics type='vnc' port='-1' autoport='yes' passwd='secret&amp;'/></devices>"),
        (
            "</qemu:commandline>",
            "<qemu:arg value='-msg'/><qemu:arg value='timestamp=off'/></qemu:commandline>",
        ),
    ]);
    let edited = machine.xml();
    machine.ok(&["network-config", NAME, "user"]);
    let started = machine.ok(&["start", NAME]);
    assert!(!started.stderr.contains("by hand"), "{started:?}");
    let kept = machine.xml();
    machine.ok(&["force-stop", NAME]);
    for mine in [
        "<serial>mine</serial>",
        "52:54:00:aa:bb:cc",
        "<sound model='ac97'>",
        "qemu-xhci",
        "<input type='tablet'",
        "<model type='vga'",
        "passwd='secret&amp;'",
        "<description>my &lt;own&gt; words</description>",
        "<title>mine</title>",
        "a=\"1\">me &amp; you<",
        "<shares>512</shares>",
        "<nosharepages/>",
        "<vcpupin vcpu='0'",
        "<iothreads>1<",
        "<total_iops_sec>1000<",
        "<cache level='3' mode='emulate'/>",
        "cache='none'",
        "<qemu:arg value='timestamp=off'/>",
        "hostfwd=tcp:127.0.0.1:",
    ] {
        assert!(edited.contains(mine), "the edit `{mine}` is missing in {edited}");
        assert!(kept.contains(mine), "`{mine}` did not survive in {kept}");
    }
    assert_eq!(kept.matches("netdev=nixvm").count(), 1, "{kept}");
    // A device keeps its place.
    let addresses = |xml: &str| {
        let mut found: Vec<String> =
            xml.lines().filter(|line| line.contains("<address type='pci'")).map(str::to_owned).collect();
        found.sort();
        found
    };
    assert_eq!(addresses(&kept), addresses(&edited));

    // What is nixvm's is set back, once, by name.
    virsh(&["setmaxmem", NAME, "512M", "--config"]);
    machine.edit(&[("discard='unmap'", "discard='ignore'"), ("<on_crash>restart", "<on_crash>preserve")]);
    let told = machine.ok(&["start", NAME]).stderr;
    for word in [
        "changed by hand",
        "memory from `512 MiB` to `256 MiB`",
        "on_crash from `preserve` to `restart`",
        "disk nixvm-data driver discard from `ignore` to `unmap`",
    ] {
        assert!(told.contains(word), "no `{word}` in {told}");
    }
    machine.ok(&["force-stop", NAME]);
    assert!(!machine.ok(&["start", NAME]).stderr.contains("by hand"));
    machine.ok(&["force-stop", NAME]);
    // A change by its files is nobody's change by hand.
    machine.ok(&["set", NAME, "memory=300M"]);
    assert!(!machine.ok(&["start", NAME]).stderr.contains("by hand"));
    assert!(machine.xml().contains("<memory unit='KiB'>307200<"));

    // What cannot be kept beside the files' values is told, and nothing is lost.
    machine.ok(&["force-stop", NAME]);
    machine.edit(&[
        ("<vcpu placement='static'>1<", "<vcpu placement='static'>4<"),
        ("<cache level='3'", "<topology sockets='1' dies='1' cores='4' threads='1'/><cache level='3'"),
    ]);
    machine
        .refused(&["start", NAME], &["libvirt refuses the domain of `foreign-web`", "may not fit any more"]);
}
