//! Manual edits of a machine's definition.

use super::machine::{Machine, NAME, virsh};

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

    // Additions and tuning.
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

    // nixvm resets its own values, once, and names them.
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
    // A change of the machine's files is no manual change.
    machine.ok(&["set", NAME, "memory=300M"]);
    assert!(!machine.ok(&["start", NAME]).stderr.contains("by hand"));
    assert!(machine.xml().contains("<memory unit='KiB'>307200<"));

    // If an addition contradicts the files' values, the command says so, and nothing is lost.
    machine.ok(&["force-stop", NAME]);
    machine.edit(&[
        ("<vcpu placement='static'>1<", "<vcpu placement='static'>4<"),
        ("<cache level='3'", "<topology sockets='1' dies='1' cores='4' threads='1'/><cache level='3'"),
    ]);
    machine.refused(&["start", NAME], &["libvirt refuses the domain of `foreign-web`", "may no longer fit"]);
}
