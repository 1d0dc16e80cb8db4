//! The firmware that libvirt would choose for guests, and whether its files exist.
//!
//! Packages describe their firmware in JSON files (QEMU's `docs/interop/firmware.json`). libvirt chooses the first description,
//! by name, that fits, and opens the files only when a guest starts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::hypervisor::Hypervisor;
use crate::model::domain::Arch;

use super::check::Check;

const NAME: &str = "firmware";
const INSTALL: &str = "./quickstart --no-machine, or install OVMF (edk2-ovmf; for aarch64 qemu-efi-aarch64)";

/// Checks the firmware; a session's user may describe some in `config`.
pub fn check(host: &Hypervisor, config: &Path) -> Check {
    let (arch, has_uefi) = match host.arch().and_then(|arch| Ok((arch, host.has_uefi(arch)?))) {
        Ok(found) => found,
        Err(error) => return Check::failed(NAME, &error),
    };
    if !has_uefi {
        return Check::fault(NAME, "libvirt finds no UEFI, which every machine needs", INSTALL);
    }
    if !host.is_local() {
        return Check::good(NAME, "libvirt has UEFI for guests");
    }
    let mut folders: Vec<PathBuf> = vec!["/usr/share/qemu/firmware".into(), "/etc/qemu/firmware".into()];
    if host.is_session() {
        folders.push(config.join("qemu/firmware"));
    }
    of(&described(&folders), arch)
}

/// Returns the descriptions by name; of two with one name, the later folder's counts.
fn described(folders: &[PathBuf]) -> BTreeMap<String, (PathBuf, Value)> {
    let mut found = BTreeMap::new();
    for folder in folders {
        for file in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
            let (path, name) = (file.path(), file.file_name().to_string_lossy().into_owned());
            if name.ends_with(".json") {
                // An empty file hides one of the same name.
                let description = fs::read(&path).ok().and_then(|json| serde_json::from_slice(&json).ok());
                found.insert(name, (path, description.unwrap_or(Value::Null)));
            }
        }
    }
    found
}

fn of(described: &BTreeMap<String, (PathBuf, Value)>, arch: Arch) -> Check {
    let fitting = described.values().filter(|(_, description)| fits(description, arch));
    let missing = fitting.map(|(path, description)| (path, missing(description)));
    let Some((at, (path, missing))) = missing.enumerate().find(|(_, (_, missing))| !missing.is_empty())
    else {
        return Check::good(NAME, "libvirt has UEFI for guests");
    };
    let finding = format!("{} names missing files: {}", path.display(), missing.join(", "));
    if at == 0 {
        // libvirt chooses this one, so no machine starts.
        Check::fault(NAME, finding, INSTALL)
    } else {
        Check::warning(NAME, finding, "install its package again, or remove the description")
    }
}

/// Returns whether libvirt may choose it for a machine: UEFI in flash, without Secure Boot, for q35 or virt.
fn fits(description: &Value, arch: Arch) -> bool {
    let holds =
        |list: &Value, word: &str| list.as_array().is_some_and(|list| list.iter().any(|one| one == word));
    let kind = match arch {
        Arch::X86_64 => "q35",
        Arch::Aarch64 => "virt",
    };
    let target = |target: &Value| {
        let machines = target["machines"].as_array().into_iter().flatten();
        let mut machines = machines.filter_map(Value::as_str);
        target["architecture"] == arch.as_str()
            && machines.any(|machine| machine.contains(kind) || machine == "*")
    };
    holds(&description["interface-types"], "uefi")
        && description["mapping"]["device"] == "flash"
        && !holds(&description["features"], "secure-boot")
        && description["targets"].as_array().into_iter().flatten().any(target)
}

fn missing(description: &Value) -> Vec<&str> {
    let mapping = &description["mapping"];
    let files = [&mapping["executable"]["filename"], &mapping["nvram-template"]["filename"]];
    files.into_iter().filter_map(Value::as_str).filter(|file| !Path::new(file).exists()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::look::doctor::Health;

    /// As Debian's ovmf describes its firmware.
    fn description(code: &Path, secure: bool) -> String {
        let features = if secure { r#""acpi-s3","secure-boot","requires-smm""# } else { r#""acpi-s3""# };
        format!(
            r#"{{"interface-types":["uefi"],"mapping":{{"device":"flash","executable":{{"filename":"{0}","format":"raw"}},
            "nvram-template":{{"filename":"{0}","format":"raw"}}}},
            "targets":[{{"architecture":"x86_64","machines":["pc-i440fx-*","pc-q35-*"]}}],"features":[{features}]}}"#,
            code.display()
        )
    }

    #[test]
    fn what_libvirt_would_take_must_be_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (system, own) = (dir.path().join("system"), dir.path().join("own"));
        for folder in [&system, &own] {
            fs::create_dir(folder).unwrap();
        }
        let (there, gone) = (dir.path().join("there"), dir.path().join("gone"));
        fs::write(&there, "").unwrap();
        let put = |folder: &Path, name: &str, code: &Path, secure| {
            fs::write(folder.join(name), description(code, secure)).unwrap();
        };
        let found = || of(&described(&[system.clone(), own.clone()]), Arch::X86_64);
        put(&system, "40-secure.json", &gone, true);
        put(&system, "60-ovmf.json", &there, false);
        assert_eq!(found().health, Health::Good, "{:?}", found());
        put(&system, "70-other.json", &gone, false);
        assert_eq!(found().health, Health::Warning, "libvirt takes the one before");
        put(&own, "50-own.json", &gone, false);
        assert_eq!(found().health, Health::Fault);
        assert!(found().finding.ends_with(&format!("gone, {}", gone.display())), "{:?}", found());
        for hidden in ["50-own.json", "70-other.json"] {
            fs::write(own.join(hidden), "").unwrap();
        }
        assert_eq!(found().health, Health::Good, "an empty file hides that of its name");
    }
}
