//! Listing, verifying and refusing backups; a bad backup changes nothing in the workspace.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nixvm::backup::{About, ArchiveName, ArchiveSource, MachineFile, Parent, State, machine_files, write};
use nixvm::model::{Generation, Timestamp};

use crate::sandbox::Sandbox;

/// The beginning of a qcow2 file of version 3 that stands alone.
fn data(length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length).map(|at| (at * 7 + at / 251) as u8).collect();
    bytes[..80].fill(0);
    bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    bytes[24..32].copy_from_slice(&(1_u64 << 30).to_be_bytes());
    bytes
}

fn about(machine: &str, created: &str, parent: Option<Parent>) -> About {
    About {
        machine: machine.parse().unwrap(),
        profile: "core".parse().unwrap(),
        machine_id: "0b5f0e4c5a4b4c7e9f570d6f6f1f8a11".parse().unwrap(),
        created: created.parse::<Timestamp>().unwrap(),
        nixvm: "0.1.0".into(),
        generation: Generation { number: 3, digest: "d".repeat(64) },
        nixpkgs_revision: "8eeec".into(),
        state: State::Frozen,
        parent,
        checkpoint: None,
    }
}

/// Writes an archive with these files and returns the `parent` of an archive that builds on it.
fn archive(folder: &Path, about: &About, files: Vec<MachineFile>) -> Parent {
    let data = data(300_000);
    let source = ArchiveSource {
        files,
        data: &mut data.as_slice(),
        data_size: data.len() as u64,
        nvram: Some(b"nvram"),
    };
    let written = write(folder, about, source, &mut |_| Ok(())).unwrap();
    Parent { archive: written.name, manifest: written.manifest }
}

/// Returns a sandbox with a machine `web` and two archives of it; the second builds on the first.
fn with_archives() -> (Sandbox, [ArchiveName; 2]) {
    let sandbox = Sandbox::new().with_web();
    let folder = sandbox.path("output/backups");
    fs::create_dir_all(&folder).unwrap();
    let files = || machine_files(&sandbox.path("machines/web")).unwrap();
    let full = archive(&folder, &about("web", "20260120-171147", None), files());
    let above = archive(&folder, &about("web", "20260121-171147", Some(full.clone())), files());
    archive(&folder, &about("web-prod", "20260122-171147", None), files());
    (sandbox, [full.archive, above.archive])
}

#[test]
fn each_machine_is_shown_its_own_archives() {
    let (sandbox, [full, above]) = with_archives();
    let listed = sandbox.run(&["backups", "web"]);
    assert_eq!((listed.code, listed.stderr.as_str()), (0, ""));
    assert!(listed.stdout.contains(&format!("{full}  2026-01-20 17:11:47")), "{}", listed.stdout);
    assert!(listed.stdout.contains(&format!("{above}  2026-01-21 17:11:47")), "{}", listed.stdout);
    assert!(listed.stdout.contains("consistent (frozen)  2 archives\n"), "{}", listed.stdout);
    assert!(!listed.stdout.contains("web-prod"), "{}", listed.stdout);
    let json: serde_json::Value =
        serde_json::from_str(&sandbox.run(&["--json", "backups", "web-prod"]).stdout).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(json[0]["machine"], "web-prod");
    assert_eq!(json[0]["contents"]["state"], "frozen");
    assert_eq!(
        sandbox.run(&["backups", "we"]).stdout,
        "no backups in WORKSPACE/output/backups; `nixvm backup NAME` makes one\n"
    );

    // Without a terminal nobody can choose. The error lists the machine's archives, and no other machine's.
    let refused = sandbox.run(&["restore-backup", "web"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    assert!(
        refused.stderr.contains("name the archive: `nixvm restore-backup web FILE`"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains(&above.to_string()) && !refused.stderr.contains("web-prod"));
    let none = sandbox.run(&["restore-backup", "we"]);
    assert_eq!(none.code, 1);
    assert!(none.stderr.starts_with("error: there is no backup of we in "), "{}", none.stderr);
}

#[test]
fn an_archive_is_whole_only_with_all_that_it_adds_to() {
    let (sandbox, [full, above]) = with_archives();
    let file = |name: &ArchiveName| sandbox.path("output/backups").join(name.to_string());
    let verify = |path: &Path| sandbox.run(&["verify-backup", path.to_str().unwrap(), "--quiet"]);
    let good = verify(&file(&above));
    assert_eq!(good.code, 0, "{good:?}");
    assert!(good.stdout.contains("is whole, and so is the archive that it adds to: "), "{good:?}");

    // Without its parent in the same folder.
    let elsewhere = sandbox.home().join(above.to_string());
    fs::copy(file(&above), &elsewhere).unwrap();
    let alone = verify(&elsewhere);
    assert_eq!((alone.code, alone.stdout.as_str()), (1, ""));
    assert!(alone.stderr.contains("cannot be restored"), "{alone:?}");
    assert!(alone.stderr.contains(&format!("hint: it holds only what changed since `{full}`")), "{alone:?}");

    // Several at once: the bad one hides nothing of the good ones.
    let files = [file(&full), elsewhere, file(&above)];
    let paths: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let several = sandbox.run(&[&["verify-backup", "--json"], &paths[..]].concat());
    let list: Vec<serde_json::Value> = serde_json::from_str(&several.stdout).unwrap();
    let named = list.iter().map(|one| Path::new(one["file"].as_str().unwrap()).file_name());
    assert!(several.code == 1 && named.eq(files.iter().map(|file| file.file_name())), "{several:?}");
    assert!(
        list[0]["bytes"].is_u64() && list[1]["error"].is_string() && list[2]["bytes"].is_u64(),
        "{several:?}"
    );
    assert!(several.stderr.ends_with("error: 1 of 3 archives failed; the others were done\n"), "{several:?}");

    // With another archive under its parent's name.
    fs::remove_file(file(&full)).unwrap();
    archive(&sandbox.path("output/backups"), &about("web", "20260120-171147", None), Vec::new());
    let other = verify(&file(&above));
    assert_eq!(other.code, 1);
    assert!(other.stderr.contains("is not the archive that it adds to"), "{other:?}");
    assert!(sandbox.run(&["backups", "web"]).stdout.contains("is not the archive that"));
}

#[test]
fn a_bad_archive_changes_nothing() {
    let (sandbox, [full, above]) = with_archives();
    let file = sandbox.path("output/backups").join(full.to_string());
    let good = fs::read(&file).unwrap();
    let before = sandbox.snapshot();
    let refused = |path: &Path, words: &str| {
        let ended = sandbox.run(&["restore-backup", "web", path.to_str().unwrap(), "--yes", "--quiet"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{words}: {ended:?}");
        assert!(ended.stderr.starts_with("error: ") && ended.stderr.contains(words), "{words}: {ended:?}");
        assert!(sandbox.snapshot() == before, "{words}: something changed");
        assert_eq!(sandbox.run(&["list"]).stdout.lines().count(), 2, "{words}");
    };
    // The tests of the format check each byte; this one checks that nothing happens.
    for at in [0, 100, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&file, &bad).unwrap();
        refused(&file, "the archive");
        // Nor an archive that builds on it.
        refused(&sandbox.path("output/backups").join(above.to_string()), "the archive");
    }
    for length in [0, 1000, good.len() - 1] {
        fs::write(&file, &good[..length]).unwrap();
        refused(&file, "the archive");
    }
    fs::write(&file, good.repeat(2)).unwrap();
    refused(&file, "there is more data after its end");
    fs::write(&file, &good).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o622)).unwrap();
    refused(&file, "other users can write it");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    refused(&sandbox.path("output/backups"), "it is not a regular file");
    refused(&sandbox.home().join("none.tar.zst"), "No such file");
    let link = sandbox.home().join("link.tar.zst");
    symlink("/dev/null", &link).unwrap();
    refused(&link, "it is not a regular file");
    let prod = sandbox.path("output/backups/web-prod-20260122-171147.tar.zst");
    refused(&prod, "is an archive of the machine `web-prod`, not of `web`");
}

#[test]
fn what_was_typed_is_checked_before_libvirt_is_asked() {
    let (sandbox, [full, _]) = with_archives();
    let before = sandbox.snapshot();
    for (arguments, code, words) in [
        (&["backup"][..], 2, "required"),
        (&["backup", "../web"], 2, "cannot be a machine's name"),
        (&["backup", "web"], 1, "has no domain `web`"),
        (&["backup", "test"], 1, "is not nixvm's"),
        (&["export", "web"], 1, "has no domain `web`"),
        (&["export", "test"], 1, "is not nixvm's"),
        (&["export", "web", "--format", "vmdk"], 2, "possible values: qcow2, raw"),
        (&["verify-backup", "none"], 1, "cannot read the archive none"),
        (&["restore-backup", "Web", "x"], 2, "cannot be a machine's name"),
        (&["restore-backup", "web", "x", "--as", "a b"], 2, "cannot be a machine's name"),
        (&["restore-backup", "web", &full.to_string(), "--as", "test", "--yes"], 1, "is not nixvm's"),
    ] {
        let ended = sandbox.run(arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(words), "{arguments:?}: {ended:?}");
        assert!(sandbox.snapshot() == before, "{arguments:?} changed something");
    }
}

#[test]
fn a_machine_whose_profile_is_missing_is_not_restored() {
    let (sandbox, [full, _]) = with_archives();
    fs::remove_dir_all(sandbox.path("machines/web")).unwrap();
    fs::remove_file(sandbox.path("profiles/core.nix")).unwrap();
    let before = sandbox.snapshot();
    let ended = sandbox.run(&["restore-backup", "web", &full.to_string(), "--trust-archive", "--quiet"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("cause: there is no profile `core`"), "{ended:?}");
    assert!(
        ended.stderr.contains("hint: put the file of its profile, `core.nix`, into profiles/"),
        "{ended:?}"
    );
    assert!(sandbox.snapshot() == before);
}

#[test]
fn what_acts_here_is_taken_from_nobody_unasked() {
    let (sandbox, _) = with_archives();
    let mut files = machine_files(&sandbox.path("machines/web")).unwrap();
    let mut more = |name: &str, bytes: &[u8]| {
        files.push(MachineFile { name: name.parse().unwrap(), executable: true, bytes: bytes.into() });
    };
    more("extra.nix", b"{ environment.etc.forged.text = \"x\"; }\n");
    more("health-check", b"#!/bin/sh\ntouch /tmp/forged\n");
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let folder = sandbox.home().join("from-elsewhere");
    fs::create_dir(&folder).unwrap();
    let Parent { archive: name, manifest } = archive(&folder, &about("web", "20260123-171147", None), files);
    let file = folder.join(name.to_string());
    // A Nix that leaves a trace when it is called.
    let programs = sandbox.home().join("programs");
    fs::create_dir(&programs).unwrap();
    let asked = sandbox.home().join("asked");
    let nix = programs.join("nix");
    fs::write(&nix, format!("#!/bin/sh\n: > {}\nexit 1\n", asked.display())).unwrap();
    fs::set_permissions(&nix, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let restore = |arguments: &[&str]| {
        let all = [&["restore-backup", "web", file.to_str().unwrap(), "--quiet"], arguments].concat();
        sandbox.run_with_path(&all, Path::new(&path))
    };
    let before = sandbox.snapshot();

    for arguments in [&["--files", "--yes"][..], &["--files"], &["--as", "db", "--yes"]] {
        let refused = restore(arguments);
        assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{arguments:?}: {refused:?}");
        for words in [
            "was not made in this workspace",
            "extra.nix: code that Nix evaluates",
            "health-check: a program that runs on this host",
            "tar xO machine/extra.nix",
            "`--trust-archive`",
        ] {
            assert!(refused.stderr.contains(words), "{arguments:?}: {refused:?}");
        }
        assert!(!refused.stderr.contains("authorized_keys"), "web's own keys are known: {refused:?}");
        assert!(sandbox.snapshot() == before && !asked.exists(), "{arguments:?} did something");
    }
    let json: serde_json::Value = serde_json::from_str(&restore(&["--files", "--json"]).stdout).unwrap();
    assert!(json["causes"][0].as_str().unwrap().starts_with("extra.nix: "), "{json}");

    // With `--trust-archive` Nix is called, and also if this workspace made the archive.
    let trusted = restore(&["--files", "--yes", "--trust-archive"]);
    assert!(asked.exists() && !trusted.stderr.contains("was not made"), "{trusted:?}");
    fs::remove_file(&asked).unwrap();
    sandbox.write(&format!("output/archives/{manifest}"), "");
    let made_here = restore(&["--as", "db"]);
    assert!(asked.exists() && !made_here.stderr.contains("was not made"), "{made_here:?}");
    assert!(sandbox.snapshot() == before);
}

#[test]
fn an_archive_brings_keys_to_a_workspace_without_its_machine() {
    let (sandbox, [full, _]) = with_archives();
    fs::remove_dir_all(sandbox.path("machines/web")).unwrap();
    let before = sandbox.snapshot();
    let refused = sandbox.run(&["restore-backup", "web", &full.to_string(), "--yes", "--quiet"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("admin_authorized_keys: 1 key(s) that log in as admin"), "{refused:?}");
    // Its network, name servers and locked root are the usual ones.
    assert!(!["network", "resolv", "root_"].iter().any(|name| refused.stderr.contains(name)), "{refused:?}");
    assert!(sandbox.snapshot() == before);
}
