//! The files `after`: which machines have to answer before another one starts.
//!
//! They are read alone, like `autostart`: for the order of machines, no other value counts.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::load::{label, unknown};
use super::{Workspace, exists, list};
use crate::error::{Explain, Failure, Result};
use crate::file;
use crate::model::order::{Circle, order};
use crate::model::{MachineName, lines};

/// Returns the machines that are to answer before this one starts.
pub fn after(workspace: &Workspace, name: &MachineName) -> Result<Vec<MachineName>> {
    Ok(waits(workspace, name)?.into_iter().map(|(_, other)| other).collect())
}

/// Returns these machines in the order in which they are to start, those of a group at the same time: each behind those that it waits
/// for, directly or by way of machines that are not among them.
///
/// # Errors
/// A file names a machine that does not exist, or machines wait for each other.
pub fn start_order(workspace: &Workspace, names: &BTreeSet<MachineName>) -> Result<Vec<Vec<MachineName>>> {
    let mut all = BTreeMap::new();
    let mut left: Vec<MachineName> = names.iter().cloned().collect();
    while let Some(name) = left.pop() {
        if let Entry::Vacant(new) = all.entry(name) {
            let others = after(workspace, new.key())?;
            left.extend(others.iter().cloned());
            new.insert(others);
        }
    }
    match order(&all) {
        Ok(mut groups) => {
            groups.iter_mut().for_each(|group| group.retain(|name| names.contains(name)));
            groups.retain(|group| !group.is_empty());
            Ok(groups)
        }
        Err(circle) => Err(refused(workspace, &circle)?.into()),
    }
}

/// Returns the machines that are to start after this one; a file that is wrong is for the commands on its machine.
pub fn waiting_for(workspace: &Workspace, name: &MachineName) -> Result<Vec<MachineName>> {
    let waits = |other: &MachineName| {
        let others = read(workspace, other).unwrap_or_default();
        others.iter().any(|(_, awaited)| awaited == name)
    };
    Ok(list(workspace)?.into_iter().filter(waits).collect())
}

/// Returns the names in a machine's file, which are those of machines, with their lines.
fn waits(workspace: &Workspace, name: &MachineName) -> Result<Vec<(usize, MachineName)>> {
    let waits = read(workspace, name)?;
    if let Some((line, other)) = waits.iter().find(|(_, other)| !exists(workspace, other)) {
        let place = place(name, *line);
        return Err(unknown(workspace, other)?).explain(|| Failure::user(format!("{place}, is wrong")));
    }
    Ok(waits)
}

fn read(workspace: &Workspace, name: &MachineName) -> Result<Vec<(usize, MachineName)>> {
    let text = file::read(&workspace.machine_dir(name).join("after"))?.unwrap_or_default();
    lines::numbered(&format!("{}/after", label(name)), &text)
}

fn place(name: &MachineName, line: usize) -> String {
    format!("{}/after, line {line}", label(name))
}

fn refused(workspace: &Workspace, Circle(names): &Circle) -> Result<Failure> {
    let mut said = Vec::new();
    for (name, other) in names.iter().zip(names.iter().cycle().skip(1)) {
        let line = read(workspace, name)?.iter().find(|(_, on)| on == other).map_or(0, |(line, _)| *line);
        said.push(format!("{name} starts after {other} ({})", place(name, line)));
    }
    Ok(Failure::user("machines wait for each other, so none of them can be the first to start")
        .because(anyhow::Error::msg(said.join("\n")))
        .hint("remove one of these lines"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::workspace::tests::workspace;
    use crate::config::{NewMachine, create, load};
    use crate::error::Report;

    fn names(names: &[&str]) -> BTreeSet<MachineName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn machines_start_behind_those_they_wait_for_even_by_way_of_others() {
        let (_dir, workspace) = workspace();
        for name in names(&["app", "cache", "db", "web"]) {
            create(&workspace, &NewMachine::named(name)).unwrap();
        }
        let says = |name: &str, text: &str| {
            std::fs::write(workspace.machines_dir().join(name).join("after"), text).unwrap();
        };
        let start = |of: &[&str]| -> Vec<String> {
            let joined = |group: &Vec<MachineName>| {
                group.iter().map(MachineName::as_str).collect::<Vec<_>>().join(" ")
            };
            start_order(&workspace, &names(of)).unwrap().iter().map(joined).collect()
        };
        assert_eq!(start(&["web", "app"]), ["app web"]);
        says("app", "# the data\ndb\n");
        says("cache", "web\n");
        says("db", "cache\n");
        assert_eq!(start(&["app", "cache", "db", "web"]), ["web", "cache", "db", "app"]);
        assert_eq!(start(&["app", "web"]), ["web", "app"]);
        assert_eq!(start(&["app"]), ["app"]);
        let app = load(&workspace, &"app".parse().unwrap()).unwrap();
        assert_eq!(app.after, ["db".parse().unwrap()]);
        assert_eq!(waiting_for(&workspace, &"db".parse().unwrap()).unwrap(), ["app".parse().unwrap()]);

        let refused = |of: &[&str]| Report::of(&start_order(&workspace, &names(of)).unwrap_err());
        says("web", "\ncache\ncache\n");
        let circle = refused(&["app"]);
        assert_eq!(
            circle.causes,
            [
                "cache starts after web (machines/cache/after, line 1)\nweb starts after cache (machines/web/after, line 2)"
            ]
        );
        says("web", "web\n");
        assert_eq!(refused(&["web"]).causes, ["web starts after web (machines/web/after, line 1)"]);
        says("web", "# x\napp\ncahce\n");
        let unknown = refused(&["web"]);
        assert_eq!(unknown.error, "machines/web/after, line 3, is wrong");
        assert_eq!(unknown.causes, ["there is no machine `cahce`"]);
        assert!(unknown.hints[0].contains("did you mean `cache`?"), "{unknown:?}");
        says("web", "db cache\n");
        assert_eq!(refused(&["web"]).error, "machines/web/after, line 1, is wrong");
    }
}
