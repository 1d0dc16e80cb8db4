use std::fmt::Write as _;

use indicatif::HumanBytes;

use crate::cli::{Name, Shown, Terminal, machine_name, table};
use crate::error::Result;
use crate::model::closure::{ChangeKind, PackageChange};
use crate::ops::{self, Call, Changed, Diff, OptionChange, SourceChange};

/// How many units are named; `--json` has all.
const UNITS: usize = 12;

pub fn run(call: &Call, args: &Name, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let diff = ops::diff(&call.machine(&name)?, &name, terminal)?;
    Ok(Shown::new(&diff, differences(&diff)))
}

fn differences(diff: &Diff) -> String {
    let name = &diff.machine;
    let unchanged =
        diff.files.as_ref().is_some_and(Vec::is_empty) && diff.sources.as_ref().is_some_and(Vec::is_empty);
    let mut text = if !diff.same {
        format!("{name}: generation {} -> {}\n", diff.from, diff.to)
    } else if unchanged {
        format!("{name} is up to date with generation {}\n", diff.from)
    } else {
        format!("{name}: the same system as generation {}\n", diff.from)
    };
    let mut changed = |label: &str, value: &Option<Changed>| {
        if let Some(Changed { before, after }) = value {
            let _ = writeln!(text, "{label}: {before} -> {after}");
        }
    };
    changed("kernel", &diff.kernel);
    changed("nixpkgs", &diff.nixpkgs);
    let unknown = |what: &str| format!("{what}: unknown; those of the old generation were not kept\n");
    match &diff.files {
        None => text.push_str(&unknown("files")),
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
        None if diff.files.is_some() => text.push_str(&unknown("profiles")),
        None => {}
        Some(sources) => sources.iter().for_each(|source| text.push_str(&source_lines(source))),
    }
    if !diff.same {
        match &diff.units {
            None => text.push_str(&unknown("units")),
            Some(units) if units.is_empty() => {}
            Some(units) => {
                let all: Vec<String> =
                    units.iter().map(|change| format!("{} {}", change.unit, word(change.kind))).collect();
                let _ = writeln!(text, "units: {}", first_of(&all));
            }
        }
        match (&diff.packages, diff.bytes) {
            (Some(packages), Some(bytes)) => {
                if !packages.is_empty() {
                    let rows = packages.iter().map(package);
                    text.push_str(&table(&["PACKAGE", "", "VERSIONS", "SIZE"], rows));
                }
                let _ = writeln!(text, "packages: {} changed, {}", packages.len(), signed(bytes));
            }
            _ => text.push_str(&unknown("packages")),
        }
    }
    text + &if diff.restart {
        format!("an upgrade restarts {name}")
    } else if diff.off && !diff.same {
        format!("{name} is off: after an upgrade, its next start runs generation {}", diff.to)
    } else {
        format!("an upgrade does not restart {name}")
    }
}

fn first_of(all: &[String]) -> String {
    match all.split_at_checked(UNITS) {
        Some((named, more @ [_, ..])) => format!("{} and {} more", named.join(", "), more.len()),
        _ => all.join(", "),
    }
}

/// Returns a changed file of the flake, and a line for each option that it now defines differently.
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

fn package(change: &PackageChange) -> Vec<String> {
    let versions = |versions: &[String]| {
        let known: Vec<&str> = versions.iter().map(String::as_str).filter(|v| !v.is_empty()).collect();
        if known.is_empty() { "-".to_owned() } else { known.join(", ") }
    };
    let (before, after) = (versions(&change.before), versions(&change.after));
    let versions = match change.kind {
        ChangeKind::Removed => before,
        ChangeKind::Changed if before != after => format!("{before} -> {after}"),
        ChangeKind::Added | ChangeKind::Changed => after,
    };
    vec![change.package.clone(), word(change.kind).to_owned(), versions, signed(change.bytes)]
}

fn signed(bytes: i64) -> String {
    let sign = if bytes < 0 { "-" } else { "+" };
    format!("{sign}{}", HumanBytes(bytes.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::units::UnitChange;
    use crate::ops::FileChange;

    #[test]
    fn what_would_change_is_told_and_what_is_not_known_too() {
        console::set_colors_enabled(false);
        let list = |versions: &[&str]| versions.iter().map(ToString::to_string).collect();
        let package = |name: &str, kind, before: &[&str], after: &[&str], bytes| PackageChange {
            package: name.into(),
            kind,
            before: list(before),
            after: list(after),
            bytes,
        };
        let file = FileChange {
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
            "web: generation 1 -> 2\nfiles: unknown; those of the old generation were not kept\n\
             units: unknown; those of the old generation were not kept\n\
             packages: unknown; those of the old generation were not kept\n\
             web is off: after an upgrade, its next start runs generation 2"
        );
        let done = Diff { to: 1, files: Some(vec![]), sources: Some(vec![]), ..same };
        assert_eq!(
            differences(&done),
            "web is up to date with generation 1\nan upgrade does not restart web"
        );
    }
}
