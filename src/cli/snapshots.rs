//! `snapshot`, `snapshots`, `restore-snapshot` and `delete-snapshot`.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::HumanBytes;

use crate::error::{Failure, Result};
use crate::ops::{self, Call, RestoreOptions, Snapshots};

use super::args::Name;
use super::commands::{machine_name, typed};
use super::prompt;
use super::show::{self, Shown};
use super::snapshot_args::{DeleteSnapshot, RestoreSnapshot, TakeSnapshot};
use super::terminal::Terminal;

/// Carries out `snapshot`.
///
/// # Errors
/// A name is not valid, or the operation fails.
pub fn take(call: &Call, args: &TakeSnapshot, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let snapshot = args.snapshot.as_deref().map(|text| typed(text.parse())).transpose()?;
    let keep = args.keep.map(|keep| keep as usize);
    let taken = ops::snapshot(&call.machine(&name)?, &name, snapshot.as_ref(), keep, terminal)?;
    Ok(Shown::new(&taken, taken.snapshot.name.as_str()))
}

/// Carries out `snapshots`.
///
/// # Errors
/// The name is not valid, or the operation fails.
pub fn list(call: &Call, args: &Name) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let snapshots = ops::snapshots(&call.machine(&name)?, &name)?;
    Ok(Shown::new(&snapshots, table(&snapshots)))
}

/// Carries out `restore-snapshot`.
///
/// # Errors
/// A name is not valid, the question cannot be asked or is answered by no, or the operation fails.
pub fn restore(call: &Call, args: &RestoreSnapshot, terminal: &Terminal) -> Result<Shown> {
    let (name, snapshot) = (machine_name(&args.name)?, typed(args.snapshot.parse())?);
    let setup = call.machine(&name)?;
    ops::require_snapshot(&setup, &name, &snapshot)?;
    let fate = match args.discard {
        true => "what it has now is deleted",
        false => "what it has now is kept as a snapshot",
    };
    let question = format!("Bring {name} back to the snapshot {snapshot}? It is stopped for that; {fate}.");
    confirm(&question, args.yes, "pass `--yes` to restore without being asked")?;
    let timeout = Duration::from_secs(args.timeout);
    let options = RestoreOptions { timeout, force: args.force, discard: args.discard };
    Ok(Shown::said(&ops::restore_snapshot(&setup, &name, &snapshot, options, terminal)?))
}

/// Carries out `delete-snapshot`.
///
/// # Errors
/// A name is not valid, the question cannot be asked or is answered by no, or the operation fails.
pub fn delete(call: &Call, args: &DeleteSnapshot, terminal: &Terminal) -> Result<Shown> {
    let (name, snapshot) = (machine_name(&args.name)?, typed(args.snapshot.parse())?);
    let setup = call.machine(&name)?;
    ops::require_snapshot(&setup, &name, &snapshot)?;
    let question = format!("Delete the snapshot {snapshot} of {name}?");
    confirm(&question, args.yes, "pass `--yes` to delete without being asked")?;
    Ok(Shown::said(&ops::delete_snapshot(&setup, &name, &snapshot, terminal)?))
}

fn confirm(question: &str, yes: bool, instead: &str) -> Result<()> {
    match yes || prompt::confirm(question, instead)? {
        true => Ok(()),
        false => Err(Failure::user("nothing was changed").into()),
    }
}

fn table(snapshots: &Snapshots) -> String {
    if snapshots.snapshots.is_empty() {
        return format!("no snapshots yet; `nixvm snapshot {}` takes one", snapshots.machine);
    }
    let rows: Vec<Vec<String>> = snapshots
        .snapshots
        .iter()
        .map(|snapshot| {
            vec![
                snapshot.name.to_string(),
                snapshot.taken_utc.clone(),
                snapshot.generation.to_string(),
                if snapshot.consistent { "yes" } else { "as after a power cut" }.into(),
                snapshot.bytes.map_or_else(|| "missing".into(), |bytes| HumanBytes(bytes).to_string()),
            ]
        })
        .collect();
    let mut text = show::table(&["NAME", "TAKEN", "GENERATION", "CONSISTENT", "SIZE"], &rows);
    let _ = writeln!(
        text,
        "{} in all; the data disk lies on {} of at most {} layers",
        HumanBytes(snapshots.bytes),
        snapshots.chain,
        snapshots.longest_chain
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::ListedSnapshot;

    #[test]
    fn sizes_are_shown_and_added_up() {
        console::set_colors_enabled(false);
        let snapshot = |name: &str, bytes: Option<u64>, consistent: bool| ListedSnapshot {
            name: name.parse().unwrap(),
            taken: 1_769_015_507,
            taken_utc: "2026-01-21 17:11:47 UTC".into(),
            generation: 3,
            consistent,
            volume: "web.data-1.qcow2".into(),
            bytes,
            lying_on: 1,
        };
        let snapshots = Snapshots {
            machine: "web".parse().unwrap(),
            snapshots: vec![snapshot("before", Some(3 << 20), true), snapshot("b", None, false)],
            bytes: 3 << 20,
            chain: 3,
            longest_chain: 32,
        };
        assert_eq!(
            table(&snapshots),
            "NAME    TAKEN                    GENERATION  CONSISTENT            SIZE\n\
             before  2026-01-21 17:11:47 UTC  3           yes                   3.00 MiB\n\
             b       2026-01-21 17:11:47 UTC  3           as after a power cut  missing\n\
             3.00 MiB in all; the data disk lies on 3 of at most 32 layers\n"
        );
        let none = Snapshots { snapshots: Vec::new(), ..snapshots };
        assert_eq!(table(&none), "no snapshots yet; `nixvm snapshot web` takes one");
    }
}
