//! `diff`: shows what an upgrade would change. It builds, and changes neither the domain nor the pool.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use crate::build::{SourceChange, Wanted, build_machine, kept};
use crate::config;
use crate::error::Result;
use crate::file;
use crate::host::{Setup, Watch};
use crate::model::MachineName;
use crate::model::closure::PackageChange;
use crate::model::units::{self, UnitChange};
use crate::nix::image;
use crate::render::{MODULE, Rendered};
use crate::work::generations::running;

/// Options of the rendered module, and the file in `machines/NAME` that each comes from. The number and the digest of a build
/// always differ and come from none.
const FILES: [(&str, &str); 9] = [
    ("networking.hostName", "hostname"),
    ("tcpPorts", "tcp_ports"),
    ("udpPorts", "udp_ports"),
    ("profile", "profile"),
    ("machineId", "machine-id"),
    ("adminKeys", "admin_authorized_keys"),
    ("userKeys", "user_authorized_keys"),
    ("resolvConf", "resolv.conf"),
    (PASSWORD, "self-contained"),
];

/// Options as the modules of an older nixvm name them, and as they are called today.
const FORMER: [(&str, &str); 2] = [
    ("networking.firewall.allowedTCPPorts", "tcpPorts"),
    ("networking.firewall.allowedUDPPorts", "udpPorts"),
];

/// The option that holds a secret, in a self-contained machine.
const PASSWORD: &str = "rootPasswordHash";

#[derive(Debug, Clone, Serialize)]
pub struct Diff {
    pub machine: MachineName,
    pub from: u32,
    /// The generation after an upgrade; equal to `from` if nothing would change.
    pub to: u32,
    /// Whether the system would be the same: then an upgrade makes no generation.
    pub same: bool,
    /// Whether an upgrade restarts the machine.
    pub restart: bool,
    pub off: bool,
    /// The machine's files that go into the image; `None` where the old generation's were not kept.
    pub files: Option<Vec<FileChange>>,
    /// Options and packages that the new generation would lack.
    pub not_carried_out: Vec<String>,
    /// The files of the flake: profiles, modules, the lock; `None` as for `files`.
    pub sources: Option<Vec<SourceChange>>,
    /// `None` as for `files`.
    pub units: Option<Vec<UnitChange>>,
    pub kernel: Option<Changed>,
    pub nixpkgs: Option<Changed>,
    /// `None` as for `files`.
    pub packages: Option<Vec<PackageChange>>,
    /// Bytes by which the system grows; `None` as for `files`.
    pub bytes: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    pub before: String,
    pub after: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Its name in `machines/NAME`.
    pub file: String,
    /// Removed lines, as they stand in the module.
    pub removed: Vec<String>,
    pub added: Vec<String>,
}

/// Builds a machine's next generation and returns how it differs from the current one.
pub fn diff(setup: &Setup, name: &MachineName, watch: &dyn Watch) -> Result<Diff> {
    let domain = setup.hypervisor()?.own(name)?;
    let machine = config::load(&setup.workspace, name)?;
    let (metadata, running) = (domain.metadata().clone(), running(&domain)?);
    let built = build_machine(setup, &Wanted::declared(setup, &machine, Some(&metadata.generations)), watch)?;
    let current = metadata.current();
    let old = kept::folder(setup, name, current.number);
    let same = current.number == built.generation.number;
    let (files, sources) = if current.is_made_from(&built.inputs) {
        (Some(Vec::new()), Some(Vec::new()))
    } else {
        let sources = kept::sources(&old)?.map(|old| old.diff(&built.sources()));
        (files(&old, &built.rendered)?, sources)
    };
    let after = image::read_closure(&built.image.folder)?;
    let before = image::read_closure(&old).ok();
    let changed = |before: &str, after: &str| {
        (before != after).then(|| Changed { before: before.to_owned(), after: after.to_owned() })
    };
    let units = before.as_ref().and_then(|before| before.units.as_ref()).zip(after.units.as_ref());
    let units = units.map(|(before, after)| units::diff(before, after));
    let packages = before.map(|before| before.diff(&after));
    Ok(Diff {
        machine: name.clone(),
        from: current.number,
        to: built.generation.number,
        same,
        restart: running.is_some_and(|running| running != built.generation.number),
        off: running.is_none(),
        files,
        not_carried_out: built.not_carried_out.clone(),
        sources,
        units,
        kernel: changed(&current.kernel, &built.image.kernel),
        nixpkgs: changed(&current.nixpkgs, &built.image.nixpkgs_revision),
        bytes: packages.as_ref().map(|packages| packages.iter().map(|change| change.bytes).sum()),
        packages,
    })
}

/// Compares two renderings; `None` where the old one was not kept.
fn files(old: &Path, new: &Rendered) -> Result<Option<Vec<FileChange>>> {
    let before = |name: &str| file::read(&old.join(name));
    let after = |name: &str| new.iter().find(|file| file.0 == name).and_then(|file| file.1.as_deref());
    let Some(module) = before(MODULE)? else { return Ok(None) };
    let mut changes = modules(&module, after(MODULE).unwrap_or_default());
    let extra = before("extra.nix")?.unwrap_or_default();
    changes.extend(lines("extra.nix", &extra, after("extra.nix").unwrap_or_default()));
    Ok(Some(changes))
}

/// Compares two rendered modules, by the machine's files that their options come from.
fn modules(before: &str, after: &str) -> Vec<FileChange> {
    let (before, after) = (options(before), options(after));
    let change = |(option, name): &(&str, &str)| {
        let (old, new) = (before.get(option), after.get(option));
        // A password hash is not shown.
        let shown = |value: Option<&&str>| -> Vec<String> {
            value.map(|v| if *option == PASSWORD { "(secret)" } else { *v }.to_owned()).into_iter().collect()
        };
        (old != new).then(|| FileChange { file: (*name).to_owned(), removed: shown(old), added: shown(new) })
    };
    FILES.iter().filter_map(change).collect()
}

/// Returns the values in a rendered module by option; the template writes each on a line of its own.
fn options(module: &str) -> BTreeMap<&str, &str> {
    let lines = module.lines().filter_map(|line| line.trim().strip_suffix(';')?.split_once(" = "));
    let today = |name| FORMER.iter().find(|(former, _)| *former == name).map_or(name, |(_, today)| *today);
    lines.map(|(name, value)| (today(name), value)).collect()
}

/// Returns the lines that only one of two files has; `None` where the files are equal.
fn lines(file: &str, before: &str, after: &str) -> Option<FileChange> {
    let only = |these: &str, those: &str| -> Vec<String> {
        let those: BTreeSet<&str> = those.lines().map(str::trim_end).collect();
        let these = these.lines().map(str::trim_end);
        these.filter(|line| !line.is_empty() && !those.contains(line)).map(str::to_owned).collect()
    };
    let change =
        FileChange { file: file.to_owned(), removed: only(before, after), added: only(after, before) };
    (before != after).then_some(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Generation;
    use crate::model::sample::machine;
    use crate::render;

    #[test]
    fn every_file_that_the_module_is_made_from_is_known_by_its_name() {
        let rendered = |machine: &crate::model::Machine, number| {
            let dir = tempfile::tempdir().unwrap();
            render::write(dir.path(), machine, &Generation { number, digest: "d".repeat(64) }).unwrap();
            std::fs::read_to_string(dir.path().join("web/default.nix")).unwrap()
        };
        let mut old = machine();
        let before = rendered(&old, 1);
        assert_eq!(modules(&before, &rendered(&old, 2)), []);
        assert_eq!(options(&before).len(), FILES.len() - 1 + 3, "no option is left out: {before}");
        old.hostname = "other".parse().unwrap();
        old.self_contained = true;
        let changes = modules(&before, &rendered(&old, 2));
        let hostname = FileChange {
            file: "hostname".into(),
            removed: vec!["\"web\"".into()],
            added: vec!["\"other\"".into()],
        };
        let secret =
            FileChange { file: "self-contained".into(), removed: vec![], added: vec!["(secret)".into()] };
        assert_eq!(changes, [hostname, secret]);
    }

    #[test]
    fn what_is_not_kept_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let new = [("default.nix", Some("{ }".to_owned())), ("extra.nix", None), ("profile", None)];
        assert_eq!(files(&dir.path().join("missing"), &new).unwrap(), None);
        assert_eq!(lines("extra.nix", "{\n a\n}\n", "{\n a\n}\n"), None);
        let change = lines("extra.nix", "{\n a\n}\n", "{\n b\n}\n").unwrap();
        assert_eq!((change.removed, change.added), (vec![" a".to_owned()], vec![" b".to_owned()]));
    }
}
