//! The order in which machines start, some of them after others.

use std::collections::{BTreeMap, BTreeSet};

use super::MachineName;

/// Machines that wait for each other: each for the next one, and the last for the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle(pub Vec<MachineName>);

/// Returns all machines in groups, each group by name: those that wait for nobody, those that wait only for these, and so on.
///
/// `after` tells for each machine for which it waits; a machine that is no key waits for nobody.
pub fn order(after: &BTreeMap<MachineName, Vec<MachineName>>) -> Result<Vec<Vec<MachineName>>, Circle> {
    let mut walk = Walk { after, path: Vec::new(), done: BTreeSet::new(), order: Vec::new() };
    after.keys().try_for_each(|name| walk.visit(name))?;
    let mut places: BTreeMap<&MachineName, usize> = BTreeMap::new();
    for name in &walk.order {
        let behind = after.get(name).into_iter().flatten().map(|other| places[other] + 1);
        places.insert(name, behind.max().unwrap_or_default());
    }
    let mut groups = Vec::new();
    for (name, place) in places {
        groups.resize(groups.len().max(place + 1), Vec::new());
        groups[place].push(name.clone());
    }
    Ok(groups)
}

struct Walk<'a> {
    after: &'a BTreeMap<MachineName, Vec<MachineName>>,
    /// From a machine to one that it waits for, and so on.
    path: Vec<&'a MachineName>,
    done: BTreeSet<&'a MachineName>,
    order: Vec<MachineName>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, name: &'a MachineName) -> Result<(), Circle> {
        if let Some(begin) = self.path.iter().position(|on_path| *on_path == name) {
            return Err(Circle(self.path[begin..].iter().copied().cloned().collect()));
        }
        if !self.done.insert(name) {
            return Ok(());
        }
        self.path.push(name);
        self.after.get(name).into_iter().flatten().try_for_each(|other| self.visit(other))?;
        self.path.pop();
        self.order.push(name.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> MachineName {
        text.parse().unwrap()
    }

    fn after(pairs: &[(&str, &[&str])]) -> BTreeMap<MachineName, Vec<MachineName>> {
        pairs.iter().map(|(of, on)| (name(of), on.iter().map(|on| name(on)).collect())).collect()
    }

    fn ordered(pairs: &[(&str, &[&str])]) -> Vec<String> {
        let joined =
            |group: &Vec<MachineName>| group.iter().map(MachineName::as_str).collect::<Vec<_>>().join(" ");
        order(&after(pairs)).unwrap().iter().map(joined).collect()
    }

    #[test]
    fn each_comes_behind_those_that_it_waits_for_and_otherwise_by_name() {
        assert_eq!(ordered(&[("b", &[]), ("a", &[])]), ["a b"]);
        assert_eq!(
            ordered(&[("app", &["db", "cache"]), ("cache", &["db"]), ("db", &[]), ("one", &[])]),
            ["db one", "cache", "app"]
        );
        assert_eq!(ordered(&[("app", &["db"]), ("web", &["db"])]), ["db", "app web"], "db is no key");
        assert_eq!(ordered(&[("app", &["db", "db"])]), ["db", "app"]);
    }

    #[test]
    fn a_circle_is_returned_without_those_that_only_lead_to_it() {
        let circle = |pairs: &[(&str, &[&str])]| {
            let Circle(names) = order(&after(pairs)).unwrap_err();
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(circle(&[("web", &["web"])]), ["web"]);
        assert_eq!(circle(&[("a", &["b"]), ("b", &["c"]), ("c", &["d"]), ("d", &["b"])]), ["b", "c", "d"]);
    }

    proptest! {
        #[test]
        fn whatever_waits_for_earlier_numbers_has_an_order(
            waits in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..20)
        ) {
            let of = |number: usize| name(&format!("m{}", (number * 7) % 23));
            let pairs: BTreeMap<_, Vec<_>> = waits
                .iter()
                .enumerate()
                .map(|(i, on)| (of(i), on.iter().filter(|_| i > 0).map(|on| of(on.index(i))).collect()))
                .collect();
            let found = order(&pairs).unwrap();
            prop_assert_eq!(found.iter().map(Vec::len).sum::<usize>(), pairs.len());
            let at = |name: &MachineName| found.iter().position(|group| group.contains(name)).unwrap();
            for (of, on) in &pairs {
                prop_assert!(on.iter().all(|on| at(on) < at(of)));
            }
        }
    }
}
