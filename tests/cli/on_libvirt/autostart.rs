//! Machines that start with their host.

use super::machine::{Machine, NAME, virsh};

fn starts_with_host(name: &str) -> bool {
    let info = virsh(&["dominfo", name]);
    let line = info.lines().find(|line| line.starts_with("Autostart:")).unwrap();
    line.ends_with("enable")
}

fn file(machine: &Machine) -> Option<String> {
    std::fs::read_to_string(machine.sandbox.path(&format!("machines/{NAME}/autostart"))).ok()
}

#[test]
#[ignore = "needs qemu:///system"]
fn autostart_is_as_the_file_says_whatever_is_done_with_the_domain() {
    let machine = Machine::new();
    let set = machine.ok(&["set", NAME, "autostart=yes"]);
    assert_eq!(set.stdout, "autostart: no -> yes, now\n");
    assert!(starts_with_host(NAME));
    let status = |field: &str| -> serde_json::Value {
        let shown = machine.ok(&["status", NAME, "--json"]).stdout;
        serde_json::from_str::<serde_json::Value>(&shown).unwrap()[field].clone()
    };
    assert_eq!(status("autostart"), true);
    assert!(machine.ok(&["status", NAME]).stdout.contains("\nautostart:  yes\n"));

    // Verbs that redefine the domain, without a build.
    for verb in [
        &["start", NAME][..],
        &["snapshot", NAME, "second"],
        &["force-stop", NAME],
        &["restore-snapshot", NAME, "first", "--yes"],
        &["network-config", NAME, "user"],
        &["rename", NAME, "foreign-shop"],
        &["rename", "foreign-shop", NAME],
    ] {
        machine.ok(verb);
        let name = if verb.last() == Some(&"foreign-shop") { "foreign-shop" } else { NAME };
        assert!(starts_with_host(name), "after {verb:?}");
    }
    // The file decides over what was set by hand, and says so.
    virsh(&["autostart", NAME, "--disable"]);
    let reset = machine.ok(&["snapshot", NAME]);
    assert!(starts_with_host(NAME) && reset.stderr.contains("autostart says `yes`"), "{reset:?}");
    machine.ok(&["set", NAME, "autostart=no"]);
    assert!(!starts_with_host(NAME));

    // A machine that was made before the file existed.
    std::fs::remove_file(machine.sandbox.path(&format!("machines/{NAME}/autostart"))).unwrap();
    machine.ok(&["start", NAME]);
    assert_eq!((file(&machine), starts_with_host(NAME)), (None, false));
    virsh(&["autostart", NAME]);
    let adopted = machine.ok(&["set", NAME, "memory=300M"]);
    assert!(adopted.stderr.contains("was told by hand to start foreign-web with its host"), "{adopted:?}");
    assert_eq!((file(&machine).as_deref(), starts_with_host(NAME)), (Some("yes\n"), true));

    // A wrong file keeps no machine from being deleted.
    machine.sandbox.write(&format!("machines/{NAME}/autostart"), "perhaps\n");
    machine.refused(&["snapshot", NAME], &["machines/foreign-web/autostart, line 1, is wrong"]);
    machine.ok(&["destroy", NAME, "--yes"]);
}

/// Such a start reads the definition and the identity volume, and none of the machine's files.
#[test]
#[ignore = "needs qemu:///system"]
fn what_a_start_with_the_host_reads_is_written_before() {
    let machine = Machine::new();
    machine.ok(&["set", NAME, "autostart=yes"]);
    let memory = |mib: u32| machine.xml().contains(&format!("<memory unit='KiB'>{}</memory>", mib << 10));
    machine.ok(&["set", NAME, "memory=300M"]);
    assert!(memory(300), "{}", machine.xml());
    machine.ok(&["start", NAME]);
    machine.ok(&["set", NAME, "memory=320M"]);
    assert!(memory(320), "{}", machine.xml());

    let identity = || std::fs::read(machine.path(&format!("{NAME}.identity.img"))).unwrap();
    let holds = |hash: &str| identity().windows(hash.len()).any(|bytes| bytes == hash.as_bytes());
    for hash in ["$6$salt$while-it-runs", "$6$salt$while-it-is-off"] {
        machine.sandbox.write("hash", format!("{hash}\n"));
        machine.ok(&["passwd", NAME, "--hash", "hash"]);
        assert!(holds(hash), "{hash}");
        machine.ok(&["force-stop", NAME]);
    }
    machine.ok(&["set", NAME, "autostart=no"]);
    machine.sandbox.write("hash", "$6$salt$later\n");
    machine.ok(&["passwd", NAME, "--hash", "hash"]);
    assert!(!holds("$6$salt$later"), "`start` writes it");
    machine.ok(&["set", NAME, "autostart=yes"]);
    assert!(holds("$6$salt$later"));
}

/// The next start has another network, and the guest that runs still has its own.
#[test]
#[ignore = "needs qemu:///system"]
fn a_guest_is_reached_as_it_was_started() {
    let machine = Machine::new();
    machine.ok(&["start", NAME]);
    let address = || {
        let shown = machine.ok(&["status", NAME, "--json"]).stdout;
        serde_json::from_str::<serde_json::Value>(&shown).unwrap()["address"].clone()
    };
    let before = address();
    assert!(before.is_string(), "{before}");
    machine.sandbox.write(&format!("machines/{NAME}/network"), "nat\n");
    machine.ok(&["set", NAME, "memory=300M"]);
    assert!(machine.xml().contains("<source network='default'/>"), "{}", machine.xml());
    assert_eq!(address(), before);
}

#[test]
#[ignore = "needs qemu:///system"]
fn set_killed_between_any_two_steps_is_completed_by_set() {
    let machine = Machine::new();
    let set = ["set", NAME, "memory=300M", "autostart=yes"];
    let mut points = 0;
    loop {
        machine.ok(&["set", NAME, "memory=256M", "autostart=no"]);
        let mut command = machine.sandbox.command(&set);
        command.env("NIXVM_CONNECT", "qemu:///system").env("NIXVM_DIE_AFTER", points.to_string());
        if command.output().unwrap().status.success() {
            break;
        }
        points += 1;
        machine.ok(&set);
        assert!(starts_with_host(NAME), "killed after {points} steps");
        assert!(machine.xml().contains("<memory unit='KiB'>307200</memory>"), "{}", machine.xml());
        assert!(!machine.sandbox.path(&format!("output/work/{NAME}.json")).exists());
    }
    // Before the first step, and after each: files, definition, identity volume.
    assert_eq!(points, 4);
}
