//! What AppArmor would let a QEMU do that runs, held against the files that it has open.

use std::fs;
use std::path::PathBuf;

use super::aa_helper::{Profile, program};
use super::{Trial, run, silent};
use crate::hypervisor::{BOOT, BackupRequest, DATA, IDENTITY};
use crate::model::MachineId;
use crate::model::domain::Accelerator;

/// Returns the files below `folder` that a running domain's QEMU has open, and whether it has them open for writing.
fn open_files(domain: &str, folder: &str) -> Vec<(String, bool)> {
    let pid = fs::read_to_string(format!("/run/libvirt/qemu/{domain}.pid")).unwrap();
    let process = PathBuf::from("/proc").join(pid.trim());
    let mut files = Vec::new();
    for entry in fs::read_dir(process.join("fd")).unwrap() {
        let entry = entry.unwrap();
        // One may have been closed since.
        let Ok(path) = fs::read_link(entry.path()) else { continue };
        let Ok(info) = fs::read_to_string(process.join("fdinfo").join(entry.file_name())) else { continue };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        // Octal; O_WRONLY and O_RDWR (open(2)).
        let writes = i64::from_str_radix(flags.trim(), 8).unwrap() & 0o3 != 0;
        if path.starts_with(folder) {
            files.push((path.display().to_string(), writes));
        }
    }
    files.sort();
    files
}

/// Checks that the domain's profile lets QEMU at the files it has open; returns how many these are.
fn check(profile: &Profile, domain: &str, folder: &str) -> usize {
    let open = open_files(domain, folder);
    for (file, writes) in &open {
        assert!(
            profile.lets(file, if *writes { "rwk" } else { "rk" }),
            "{file}, written {writes}: {profile:?}"
        );
    }
    open.len()
}

fn dump(domain: &str, flags: &[&str]) -> String {
    run("virsh", &[&["-q", "dumpxml", "--security-info", domain], flags].concat())
}

#[test]
#[ignore = "needs qemu:///system"]
fn qemu_is_let_at_all_that_it_opens_for_a_machine() {
    let Some(program) = program() else { return };
    let trial = Trial::new("h-aa-runs");
    let owned = trial.own();
    let folder = trial.dir.path().to_str().unwrap();
    let profile = || Profile::of(&program, &dump(trial.name, &[])).unwrap();
    // Written before QEMU starts, and any time later, by what libvirt knows then.
    let first = profile();
    owned.start().unwrap();
    assert_eq!(check(&first, trial.name, folder), 5, "base, boot, data, identity and NVRAM");
    assert_eq!(check(&profile(), trial.name, folder), 5);

    // Snapshots: libvirt adds the new layer to what was written, and may write all anew afterwards.
    let mut added = first;
    for (file, on) in [("data-1", "data"), ("data-2", "data-1"), ("data-3", "data-2")] {
        let overlay = trial.overlay(file, on);
        added.append(&program, &dump(trial.name, &[]), &overlay);
        owned.switch_data(&overlay, false).unwrap();
    }
    assert_eq!(check(&added, trial.name, folder), 8);
    assert_eq!(check(&profile(), trial.name, folder), 8);

    // A backup: the same for the file that it writes.
    let copy = trial.blank("copy", "1G");
    trial.write(1, "0", "64M");
    let mut seen = 0;
    let request = BackupRequest { path: &copy, since: None, checkpoint: None };
    owned
        .backup_data(request, &mut |_| {
            let mut during = profile();
            during.append(&program, &dump(trial.name, &[]), &copy);
            seen = seen.max(check(&during, trial.name, folder));
            Ok(())
        })
        .unwrap();
    assert!(seen >= 8, "{seen}");

    // Off and on again: now the images' headers say what lies below.
    owned.force_off().unwrap();
    let again = profile();
    owned.start().unwrap();
    assert_eq!(check(&again, trial.name, folder), 8);
    // Why a machine that runs may not merge: `Merged::Denied`.
    let version = trial.hypervisor.connection().lib_version().unwrap();
    assert_eq!(again.lets(&trial.path("data"), "w"), version >= 12_001_000, "libvirt {version}");
}

#[test]
#[ignore = "needs qemu:///system"]
fn qemu_is_let_at_all_that_it_opens_without_a_machine() {
    let Some(program) = program() else { return };
    let trial = Trial::new("h-aa-helps");
    trial.overlay("data-1", "data");
    let arch = trial.hypervisor.arch().unwrap();
    let pid = std::process::id();
    let probe = crate::hypervisor::accelerator::probe_xml(arch, Accelerator::Tcg, pid, MachineId::generate());
    let id = MachineId::generate();
    let copier = crate::hypervisor::copier::copier_xml(arch, Accelerator::Tcg, id, &trial.path("data-1"));
    for (xml, folder, files) in
        [(probe, "/var/lib/libvirt/qemu/nvram", 1), (copier, trial.dir.path().to_str().unwrap(), 2)]
    {
        let flags = virt::sys::VIR_DOMAIN_START_AUTODESTROY | virt::sys::VIR_DOMAIN_START_PAUSED;
        let domain = trial.hypervisor.connection().create_domain_xml(&xml, flags).unwrap();
        let name = domain.name().unwrap();
        let seen = check(&Profile::of(&program, &dump(&name, &[])).unwrap(), &name, folder);
        domain.destroy().unwrap();
        if files == 1 {
            let nvram = trial.hypervisor.connection().define_domain_xml(&xml).unwrap();
            nvram.undefine_flags(virt::sys::VIR_DOMAIN_UNDEFINE_NVRAM).unwrap();
        }
        assert_eq!(seen, files, "{xml}");
    }
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_definition_that_names_volumes_is_brought_over() {
    let trial = Trial::new("h-aa-old");
    let owned = trial.own();
    let volumes = || trial.define_on("volume", |file| format!("pool='{}' volume='{file}'", trial.name));
    let files = [(BOOT, "boot"), (DATA, "data"), (IDENTITY, "id")]
        .map(|(serial, file)| (serial.to_owned(), Some(trial.path(file))));
    let pools = || owned.disks().unwrap().disks.iter().filter(|disk| disk.pool.is_some()).count();
    // What is of no disk's source is as it was, a display's password that libvirt shows to nobody among it.
    let rest = |xml: String| {
        let lines = xml.lines().filter(|line| !line.contains("<source") && !line.contains("<disk "));
        lines.collect::<Vec<_>>().join("\n")
    };
    volumes();
    // As somebody would by `virsh edit`.
    let edited = dump(trial.name, &["--inactive"])
        .replace("</devices>", "<graphics type='vnc' port='-1' passwd='secret'/></devices>");
    trial.hypervisor.connection().define_domain_xml(&edited).unwrap();
    let before = dump(trial.name, &["--inactive"]);
    assert!(before.contains("passwd='secret'"), "{before}");
    assert_eq!(pools(), 3);
    owned.name_files(&files).unwrap();
    assert_eq!(pools(), 0);
    assert_eq!(rest(dump(trial.name, &["--inactive"])), rest(before));
    assert_eq!(owned.disks().unwrap().volume(DATA), Some("data"));

    volumes();
    owned.start().unwrap();
    let live = dump(trial.name, &[]);
    owned.name_files(&files).unwrap();
    assert_eq!((pools(), dump(trial.name, &[])), (0, live));
    // The guest goes on by what it was started as, and its definition follows.
    owned.switch_data(&trial.overlay("data-1", "data"), false).unwrap();
    assert_eq!(trial.chains(), (vec!["data-1".into(), "data".into()], Some("data-1".into())));
    owned.commit_data(&trial.path("data"), &trial.path("data-1"), &mut silent).unwrap();
    assert_eq!(trial.chains(), (vec!["data".into()], Some("data".into())));
    owned.force_off().unwrap();
    assert!(owned.start().unwrap());
}

#[test]
#[ignore = "needs qemu:///system"]
fn a_start_by_somebody_else_finds_all_layers_after_a_snapshot() {
    let Some(program) = program() else { return };
    let trial = Trial::new("h-aa-chain");
    let owned = trial.own();
    trial.overlay("data-1", "data");
    trial.define_on("file", |file| {
        format!("file='{}'", trial.path(if file == "data" { "data-1" } else { file }))
    });
    owned.start().unwrap();
    owned.switch_data(&trial.overlay("data-2", "data-1"), false).unwrap();
    // What libvirt starts a machine from by itself, as with the host. libvirt 9.0 adds the layer below, and not the lowest.
    let next = || Profile::of(&program, &dump(trial.name, &["--inactive"])).unwrap();
    println!("the lowest layer may be read before: {}", next().lets(&trial.path("data"), "r"));
    owned.name_files(&[(DATA.to_owned(), None)]).unwrap();
    for file in ["data", "data-1", "data-2"] {
        assert!(next().lets(&trial.path(file), "r"), "{file}");
    }
    owned.force_off().unwrap();
    let written = next();
    owned.start().unwrap();
    check(&written, trial.name, trial.dir.path().to_str().unwrap());
}
