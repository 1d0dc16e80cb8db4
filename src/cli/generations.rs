//! `upgrade`, `rollback`, `generations`, `diff`, `clean`.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{HumanBytes, HumanDuration};

use crate::error::{Failure, Result};
use crate::model::MachineName;
use crate::model::closure::{Change, ChangeKind};
use crate::ops::{
    self, Call, Changed, Diff, Garbage, ListedGeneration, OptionChange, Setup, SourceChange, UpgradeRequest,
};

use super::commands::machine_name;
use super::generation_args::{Clean, Generations, Rollback, Upgrade};
use super::prompt;
use super::show::{self, Shown};
use super::terminal::Terminal;

/// Letters of a revision that are shown; `--json` has all.
const REVISION: usize = 11;

/// Upgrades one of the machines.
///
/// # Errors
/// Those of the operation.
pub fn upgrade(
    setup: &Setup,
    name: &MachineName,
    args: &Upgrade,
    terminal: &Terminal,
) -> Result<serde_json::Value> {
    let request = UpgradeRequest {
        start: !args.no_start,
        judge: !args.no_health,
        timeout: args.timeout.map(Duration::from_secs),
    };
    show::json(&ops::upgrade(setup, name, request, terminal)?)
}

/// Carries out `rollback`.
///
/// # Errors
/// The name is not valid, or the operation fails.
pub fn rollback(call: &Call, args: &Rollback, terminal: &Terminal) -> Result<Shown> {
    let timeout = args.timeout.map(Duration::from_secs);
    let name = machine_name(&args.name)?;
    let done = ops::rollback(&call.machine(&name)?, &name, args.generation, timeout, terminal)?;
    Ok(Shown::said(&done))
}

/// Carries out `generations`.
///
/// # Errors
/// The name is not valid, or the operation fails.
pub fn generations(call: &Call, args: &Generations, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let setup = call.machine(&name)?;
    if let Some(keep) = args.keep {
        ops::keep_generations(&setup, &name, keep, terminal)?;
        terminal.rest();
    }
    let generations = ops::generations(&setup, &name)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Ok(Shown::new(&generations, table(&generations, now)))
}

fn table(generations: &[ListedGeneration], now: u64) -> String {
    let row = |generation: &ListedGeneration| {
        let build = &generation.build;
        let marks = [(generation.current, "current"), (generation.running, "running")];
        let marks: Vec<&str> = marks.into_iter().filter(|(set, _)| *set).map(|(_, mark)| mark).collect();
        vec![
            build.number.to_string(),
            marks.join(", "),
            format!("{} ago", HumanDuration(Duration::from_secs(now.saturating_sub(build.made)))),
            build.health.to_string(),
            build.profile.to_string(),
            build.kernel.clone(),
            build.nixpkgs.chars().take(REVISION).collect(),
            generation.bytes.map_or_else(|| "missing".into(), |bytes| HumanBytes(bytes).to_string()),
        ]
    };
    let rows: Vec<Vec<String>> = generations.iter().map(row).collect();
    show::table(&["NUMBER", "", "MADE", "HEALTH", "PROFILE", "KERNEL", "NIXPKGS", "DISK"], &rows)
}

/// Carries out `diff`.
///
/// # Errors
/// Those of the operation.
pub fn diff(call: &Call, name: &MachineName, terminal: &Terminal) -> Result<Shown> {
    let diff = ops::diff(&call.machine(name)?, name, terminal)?;
    Ok(Shown::new(&diff, differences(&diff)))
}

fn differences(diff: &Diff) -> String {
    let name = &diff.machine;
    let unchanged = |changes: Option<usize>| changes == Some(0);
    let as_before =
        unchanged(diff.files.as_ref().map(Vec::len)) && unchanged(diff.sources.as_ref().map(Vec::len));
    let mut text = match diff.same {
        true if as_before => format!("{name} is up to date with generation {}\n", diff.from),
        true => format!("{name}: the same system as generation {}\n", diff.from),
        false => format!("{name}: generation {} -> {}\n", diff.from, diff.to),
    };
    let mut changed = |label: &str, value: &Option<Changed>| {
        if let Some(Changed { before, after }) = value {
            let _ = writeln!(text, "{label}: {before} -> {after}");
        }
    };
    changed("kernel", &diff.kernel);
    changed("nixpkgs", &diff.nixpkgs);
    match &diff.files {
        None => text.push_str("files: not known, for what the old generation was made from is not kept\n"),
        Some(files) => {
            for file in files {
                let _ = writeln!(text, "changed: machines/{name}/{}", file.file);
                for (mark, lines) in [('-', &file.removed), ('+', &file.added)] {
                    for line in lines {
                        let _ = writeln!(text, "  {mark} {line}");
                    }
                }
            }
        }
    }
    match &diff.sources {
        None if diff.files.is_some() => text.push_str("profiles: not known, likewise\n"),
        None => {}
        Some(sources) => sources.iter().for_each(|source| text.push_str(&source_lines(source))),
    }
    if !diff.same {
        match &diff.units {
            None => text.push_str("units: not known, likewise\n"),
            Some(units) if units.is_empty() => {}
            Some(units) => {
                let all: Vec<String> =
                    units.iter().map(|change| format!("{} {}", change.unit, word(change.kind))).collect();
                let _ = writeln!(text, "units: {}", first_of(&all));
            }
        }
        match (&diff.packages, diff.bytes) {
            (Some(packages), Some(bytes)) => {
                let rows: Vec<Vec<String>> = packages.iter().map(package).collect();
                if !rows.is_empty() {
                    text.push_str(&show::table(&["PACKAGE", "", "VERSIONS", "SIZE"], &rows));
                }
                let _ = writeln!(text, "packages: {} changed, {}", packages.len(), signed(bytes));
            }
            _ => text.push_str("packages: not known, likewise\n"),
        }
    }
    text.push_str(&match (diff.restart, diff.off && !diff.same) {
        (true, _) => format!("an upgrade restarts {name}"),
        (_, true) => {
            format!("{name} is off: after an upgrade it has generation {} at its next start", diff.to)
        }
        _ => format!("an upgrade does not restart {name}"),
    });
    text
}

/// How many units are named; `--json` has all.
const UNITS: usize = 12;

fn first_of(all: &[String]) -> String {
    let named = all.iter().take(UNITS).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(UNITS) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Returns a changed file of the flake with the options that it defines otherwise, a line each.
fn source_lines(source: &SourceChange) -> String {
    let why = if source.cosmetic { " (comments and layout only)" } else { "" };
    let mut text = format!("{}: {}{why}\n", word(source.kind), source.file);
    for OptionChange { option, before, after } in &source.options {
        let _ = match (before, after) {
            (Some(before), Some(after)) => writeln!(text, "  {option}: {before} -> {after}"),
            (None, Some(after)) => writeln!(text, "  + {option}: {after}"),
            (before, _) => writeln!(text, "  - {option}: {}", before.as_deref().unwrap_or_default()),
        };
    }
    text
}

fn word(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Added => "added",
        ChangeKind::Removed => "removed",
        ChangeKind::Changed => "changed",
    }
}

fn package(change: &Change) -> Vec<String> {
    let versions = |versions: &[String]| {
        let known: Vec<&str> = versions.iter().map(String::as_str).filter(|v| !v.is_empty()).collect();
        if known.is_empty() { "-".to_owned() } else { known.join(", ") }
    };
    let (before, after) = (versions(&change.before), versions(&change.after));
    let (kind, versions) = match change.kind {
        ChangeKind::Added => ("added", after),
        ChangeKind::Removed => ("removed", before),
        ChangeKind::Changed if before == after => ("changed", after),
        ChangeKind::Changed => ("changed", format!("{before} -> {after}")),
    };
    vec![change.package.clone(), kind.to_owned(), versions, signed(change.bytes)]
}

/// Returns a difference in bytes, its sign always said.
fn signed(bytes: i64) -> String {
    let sign = if bytes < 0 { "-" } else { "+" };
    format!("{sign}{}", HumanBytes(bytes.unsigned_abs()))
}

/// Carries out `clean`.
///
/// # Errors
/// The question cannot be asked or was answered by no, or the operation fails.
pub fn clean(call: &Call, args: &Clean, terminal: &Terminal) -> Result<Shown> {
    let (mut found, mut pools) = (Vec::new(), Vec::new());
    for setup in call.pools()? {
        // What lies in the workspace itself is found for every pool.
        let mut here = ops::garbage(&setup)?;
        here.retain(|item| !found.contains(item));
        found.extend(here.iter().cloned());
        pools.push((setup, here));
    }
    if found.is_empty() {
        return Ok(Shown::new(&found, "nothing to delete: everything is needed"));
    }
    let listed = garbage(&found);
    if args.dry_run {
        return Ok(Shown::new(&found, listed));
    }
    if !args.yes {
        terminal.rest();
        terminal.line(&listed);
        if !prompt::confirm("Delete all this?", "pass `--yes` to delete without being asked")? {
            return Err(Failure::user("nothing was deleted").into());
        }
    }
    let mut deleted = Vec::new();
    for (setup, here) in pools.iter().filter(|(_, here)| !here.is_empty()) {
        deleted.extend(ops::clean(setup, here, terminal)?);
    }
    Ok(Shown::new(&deleted, garbage(&deleted)))
}

fn garbage(found: &[Garbage]) -> String {
    let row = |item: &Garbage| {
        let (kind, what) = match item {
            Garbage::Generation { machine, number, .. } => ("generation", format!("{number} of {machine}")),
            Garbage::Base { volume, .. } => ("base image", volume.clone()),
            Garbage::OutLink { path } => ("build link", path.display().to_string()),
            Garbage::Files { path, .. } => ("files", path.display().to_string()),
        };
        let bytes = item.bytes().map_or_else(|| "-".into(), |bytes| HumanBytes(bytes).to_string());
        vec![bytes, kind.to_owned(), what]
    };
    let rows: Vec<Vec<String>> = found.iter().map(row).collect();
    let all = HumanBytes(found.iter().filter_map(Garbage::bytes).sum());
    format!("{}{all} in all", show::table(&["FREES", "", "WHAT"], &rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::{Build, BuildHealth};
    use crate::model::units::UnitChange;

    #[test]
    fn what_would_change_is_told_and_what_is_not_known_too() {
        console::set_colors_enabled(false);
        let list = |versions: &[&str]| versions.iter().map(ToString::to_string).collect();
        let package = |name: &str, kind, before: &[&str], after: &[&str], bytes| Change {
            package: name.into(),
            kind,
            before: list(before),
            after: list(after),
            bytes,
        };
        let file = ops::FileChange {
            file: "tcp_ports".into(),
            removed: vec!["[ 22 ]".into()],
            added: vec!["[ 22 80 ]".into()],
        };
        let mut diff = Diff {
            machine: "web".parse().unwrap(),
            from: 1,
            to: 2,
            same: false,
            restart: true,
            off: false,
            files: Some(vec![file]),
            not_carried_out: Vec::new(),
            sources: Some(vec![
                SourceChange {
                    file: "profiles/core.nix".into(),
                    kind: ChangeKind::Changed,
                    cosmetic: true,
                    options: vec![],
                },
                SourceChange {
                    file: "profiles/web.nix".into(),
                    kind: ChangeKind::Changed,
                    cosmetic: false,
                    options: vec![
                        OptionChange {
                            option: "a".into(),
                            before: Some("1".into()),
                            after: Some("2".into()),
                        },
                        OptionChange { option: "b.c".into(), before: None, after: Some("[ ]".into()) },
                        OptionChange { option: "d".into(), before: Some("x".into()), after: None },
                    ],
                },
            ]),
            units: Some(vec![UnitChange { unit: "a.service".into(), kind: ChangeKind::Added }]),
            kernel: Some(Changed { before: "6.12.1".into(), after: "6.12.2".into() }),
            nixpkgs: None,
            packages: Some(vec![
                package("bash", ChangeKind::Changed, &["5.2"], &["5.3"], 2048),
                package("etc", ChangeKind::Changed, &[""], &[""], -1024),
                package("vim", ChangeKind::Added, &[], &["9.1"], 1 << 20),
            ]),
            bytes: Some((1 << 20) + 1024),
        };
        assert_eq!(
            differences(&diff),
            "web: generation 1 -> 2\nkernel: 6.12.1 -> 6.12.2\nchanged: machines/web/tcp_ports\n  - [ 22 ]\n  + [ 22 80 ]\n\
             changed: profiles/core.nix (comments and layout only)\n\
             changed: profiles/web.nix\n  a: 1 -> 2\n  + b.c: [ ]\n  - d: x\n\
             units: a.service added\n\
             PACKAGE           VERSIONS    SIZE\n\
             bash     changed  5.2 -> 5.3  +2.00 KiB\n\
             etc      changed  -           -1.00 KiB\n\
             vim      added    9.1         +1.00 MiB\n\
             packages: 3 changed, +1.00 MiB\n\
             an upgrade restarts web"
        );
        let comment = diff.sources.as_ref().map(|sources| sources[..1].to_vec());
        let same = Diff {
            to: 1,
            same: true,
            restart: false,
            files: Some(vec![]),
            sources: comment,
            kernel: None,
            ..diff.clone()
        };
        assert_eq!(
            differences(&same),
            "web: the same system as generation 1\nchanged: profiles/core.nix (comments and layout only)\n\
             an upgrade does not restart web"
        );
        (diff.files, diff.sources, diff.units, diff.packages, diff.bytes, diff.kernel) =
            (None, None, None, None, None, None);
        (diff.restart, diff.off) = (false, true);
        assert_eq!(
            differences(&diff),
            "web: generation 1 -> 2\nfiles: not known, for what the old generation was made from is not kept\n\
             units: not known, likewise\npackages: not known, likewise\n\
             web is off: after an upgrade it has generation 2 at its next start"
        );
        let done = Diff { to: 1, files: Some(vec![]), sources: Some(vec![]), ..same };
        assert_eq!(
            differences(&done),
            "web is up to date with generation 1\nan upgrade does not restart web"
        );
    }

    #[test]
    fn each_generation_is_a_line() {
        console::set_colors_enabled(false);
        let generation = |number, current, bytes| ListedGeneration {
            build: Build {
                number,
                profile: "core".parse().unwrap(),
                digest: "d".repeat(64),
                also: None,
                fingerprint: None,
                base: "b".into(),
                made: 1_000_000 - 7200 * u64::from(number),
                health: BuildHealth::Healthy,
                nixpkgs: "8eeec934ae0dbeca3d7868c0".into(),
                kernel: "6.12.1".into(),
                seen: None,
            },
            current,
            running: !current,
            volume: "v".into(),
            bytes,
        };
        let text = table(&[generation(1, false, Some(1 << 20)), generation(2, true, None)], 1_000_000);
        assert_eq!(
            text,
            "NUMBER           MADE         HEALTH   PROFILE  KERNEL  NIXPKGS      DISK\n\
             1       running  2 hours ago  healthy  core     6.12.1  8eeec934ae0  1.00 MiB\n\
             2       current  4 hours ago  healthy  core     6.12.1  8eeec934ae0  missing\n"
        );
    }
}
