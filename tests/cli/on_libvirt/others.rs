//! Snapshots and checkpoints that another tool made of the machine.

use super::machine::{Machine, NAME, run, shell, virsh};

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

    // Two snapshots, while the machine runs.
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

    // A snapshot without libvirt's record.
    take("s3", &["--no-metadata"]);
    machine.write(4);
    machine.refused(&["start", NAME], &words).iter().for_each(|command| shell(command));
    machine.is_on(2);
    machine.holds(2, &[1, 2, 3, 4]);

    // While the machine is off, with and without libvirt's record.
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
    // The snapshot below has not changed.
    let untouched = run(
        "qemu-io",
        &["-U", "-r", "-f", "qcow2", "-c", "read -P 0 0 8M", &machine.path(&machine.layer(1))],
    );
    assert!(untouched.contains("read 8388608"), "{untouched}");
    machine.ok(&["snapshot", NAME]);

    // `destroy` deletes everything of the machine, and names the other tool's file.
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
    // Without `--base` and `--shallow` blockcommit merges down to the lowest layer.
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
