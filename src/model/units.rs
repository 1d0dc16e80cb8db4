//! The units of two systems, and in which of them they differ.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::closure::ChangeKind;

/// A unit that differs between two systems.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitChange {
    pub unit: String,
    pub kind: ChangeKind,
}

/// Returns the units in which two systems differ, sorted by name. The maps are the files below `/etc/systemd/system` with
/// their digests.
pub fn diff(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<UnitChange> {
    let (before, after) = (by_unit(before), by_unit(after));
    let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let change = |unit: &str| {
        let kind = match (before.get(unit), after.get(unit)) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            (old, new) if old != new => ChangeKind::Changed,
            _ => return None,
        };
        Some(UnitChange { unit: unit.to_owned(), kind })
    };
    names.into_iter().filter_map(change).collect()
}

/// Groups files by unit: its own, its drop-ins (`NAME.d/`), and the links by which others want it.
fn by_unit(files: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeMap<&str, &str>> {
    let mut units: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for (file, digest) in files {
        let unit = match file.split_once('/') {
            None => file,
            Some((folder, name)) => folder.strip_suffix(".d").unwrap_or(name),
        };
        units.entry(unit).or_default().insert(file, digest);
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned())).collect()
    }

    #[test]
    fn a_unit_is_its_file_what_adds_to_it_and_who_wants_it() {
        let before = files(&[
            ("a.service", "1"),
            ("b.service", "1"),
            ("c.service.d/overrides.conf", "1"),
            ("gone.timer", "1"),
            ("same.service", "1"),
            ("multi-user.target.wants/same.service", "1"),
        ]);
        let after = files(&[
            ("a.service", "2"),
            ("b.service", "1"),
            ("multi-user.target.wants/b.service", "1"),
            ("c.service.d/overrides.conf", "2"),
            ("new.service", "1"),
            ("same.service", "1"),
            ("multi-user.target.wants/same.service", "1"),
        ]);
        let changes: Vec<(String, ChangeKind)> =
            diff(&before, &after).into_iter().map(|change| (change.unit, change.kind)).collect();
        let expected = [
            ("a.service", ChangeKind::Changed),
            ("b.service", ChangeKind::Changed),
            ("c.service", ChangeKind::Changed),
            ("gone.timer", ChangeKind::Removed),
            ("new.service", ChangeKind::Added),
        ];
        assert_eq!(changes, expected.map(|(unit, kind)| (unit.to_owned(), kind)));
        assert_eq!(diff(&before, &before), []);
    }
}
