//! `snapshots`.

use std::fmt::Write as _;

use indicatif::HumanBytes;

use crate::cli::{Name, Shown, machine_name, table};
use crate::error::Result;
use crate::ops::{self, Call, ListedSnapshot, Snapshots};

pub fn run(call: &Call, args: &Name) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let snapshots = ops::snapshots(&call.machine(&name)?, &name)?;
    Ok(Shown::new(&snapshots, listing(&snapshots)))
}

fn listing(snapshots: &Snapshots) -> String {
    if snapshots.snapshots.is_empty() {
        return format!("no snapshots yet; `nixvm snapshot {}` takes one", snapshots.machine);
    }
    let row = |snapshot: &ListedSnapshot| {
        vec![
            snapshot.name.to_string(),
            snapshot.taken_utc.clone(),
            snapshot.generation.to_string(),
            if snapshot.consistent { "yes" } else { "as after a power cut" }.into(),
            snapshot.bytes.map_or_else(|| "missing".into(), |bytes| HumanBytes(bytes).to_string()),
        ]
    };
    let rows = snapshots.snapshots.iter().map(row);
    let mut text = table(&["NAME", "TAKEN", "GENERATION", "CONSISTENT", "SIZE"], rows);
    let _ = writeln!(
        text,
        "{} in all; the data disk has {} of at most {} layers",
        HumanBytes(snapshots.bytes),
        snapshots.chain,
        snapshots.longest_chain
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
            listing(&snapshots),
            "NAME    TAKEN                    GENERATION  CONSISTENT            SIZE\n\
             before  2026-01-21 17:11:47 UTC  3           yes                   3.00 MiB\n\
             b       2026-01-21 17:11:47 UTC  3           as after a power cut  missing\n\
             3.00 MiB in all; the data disk has 3 of at most 32 layers\n"
        );
        let none = Snapshots { snapshots: Vec::new(), ..snapshots };
        assert_eq!(listing(&none), "no snapshots yet; `nixvm snapshot web` takes one");
    }
}
