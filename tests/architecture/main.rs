//! What the architecture promises, checked on the code itself.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod imports;
mod rules;

use std::path::{Path, PathBuf};

use imports::Imports;

/// The floors of the house, lowest first: a file imports from below its own floor, and from its own module.
const FLOORS: [&[&str]; 12] = [
    &["error"],
    &["interrupt"],
    &["model"],
    &["exec", "file", "libvirt"],
    &["backup", "config", "hypervisor", "journal", "nix", "render", "storage"],
    &["host"],
    &["build", "disks"],
    &["work"],
    &["guest"],
    &["ops"],
    &["cli"],
    &["main", "lib"],
];

/// Nobody else speaks to libvirt, or knows the text of what it is told.
const KNOW_LIBVIRT: [&str; 3] = ["hypervisor", "storage", "render"];

/// Returns the module at the top that a file is of.
fn top(file: &Path) -> &str {
    let first = file.iter().next().and_then(|word| word.to_str()).unwrap();
    first.trim_end_matches(".rs")
}

fn floor(file: &Path) -> usize {
    let floor = FLOORS.iter().position(|floor| floor.contains(&top(file)));
    floor.unwrap_or_else(|| panic!("{} is on no floor", file.display()))
}

/// Returns the verb that a file is of: `ops/life/start.rs` and all of `ops/generations/upgrade/` are one each. What is asked and
/// shown of a verb (`cli/life/start.rs`) is one, too.
fn verb(file: &Path) -> Option<PathBuf> {
    let words: Vec<_> = file.iter().collect();
    let [floor, group, verb, ..] = words[..] else { return None };
    let of_verbs = floor == "ops" || floor == "cli";
    (of_verbs && verb != "mod.rs").then(|| Path::new(floor).join(group).join(verb).with_extension(""))
}

fn upward(imports: &Imports) -> Vec<String> {
    let wrong = |(from, to): &(&Path, &Path)| {
        let inside = top(from) == top(to);
        let hidden = top(to) == "libvirt" && !KNOW_LIBVIRT.contains(&top(from));
        !inside && (floor(from) <= floor(to) || hidden)
    };
    imports.all().filter(wrong).map(|(from, to)| told(&[from, to], "may not import")).collect()
}

fn between_verbs(imports: &Imports) -> Vec<String> {
    let wrong = |(from, to): &(&Path, &Path)| match (verb(from), verb(to)) {
        (Some(verb), Some(other)) => top(from) == top(to) && verb != other,
        _ => false,
    };
    imports
        .all()
        .filter(wrong)
        .map(|(from, to)| told(&[from, to], "is a verb and imports the verb"))
        .collect()
}

fn circles(imports: &Imports) -> Vec<String> {
    let circle = |files: Vec<&Path>| {
        let first = files.last().copied();
        told(&first.into_iter().chain(files).collect::<Vec<_>>(), "imports")
    };
    imports.circles().into_iter().map(circle).collect()
}

fn told(files: &[&Path], relation: &str) -> String {
    let files: Vec<String> = files.iter().map(|file| format!("src/{}", file.display())).collect();
    files.join(&format!(" {relation} "))
}

#[test]
fn a_file_imports_only_from_the_floors_below() {
    let imports = Imports::of_folder(Path::new("src"));
    assert!(imports.count() > 200, "only {} files were read", imports.count());
    assert!(imports.all().count() > 1000, "only {} imports were seen", imports.all().count());
    assert_eq!(upward(&imports), [""; 0]);
}

#[test]
fn no_file_imports_one_that_imports_it_back() {
    assert_eq!(circles(&Imports::of_folder(Path::new("src"))), [""; 0]);
}

#[test]
fn no_verb_imports_a_verb() {
    assert_eq!(between_verbs(&Imports::of_folder(Path::new("src"))), [""; 0]);
}

#[test]
fn what_is_forbidden_would_be_seen() {
    let imports = Imports::of_texts(
        [
            ("lib.rs", "mod disks; mod guest; mod model; mod ops;"),
            ("model/mod.rs", "mod name; mod size; pub use name::Name;"),
            ("model/name.rs", "use super::size; pub struct Name;"),
            ("model/size.rs", "fn size(of: crate::model::Name) {}"),
            ("disks.rs", "//! crate::ops\nuse crate::{guest::{self as g, ask}, model::Name};"),
            ("guest.rs", "pub fn ask() {} #[cfg(test)] mod tests { use crate::ops; }"),
            ("ops/mod.rs", "mod life; pub use life::stop::stop;"),
            ("ops/life/mod.rs", "pub mod start; pub mod stop;"),
            ("ops/life/start.rs", "use crate::ops::stop;"),
            ("ops/life/stop.rs", "pub fn stop() { crate::libvirt::open() }"),
            ("libvirt.rs", "pub fn open() {}"),
        ]
        .map(|(path, text)| (path.into(), text.to_owned())),
    );
    assert_eq!(
        upward(&imports),
        ["src/disks.rs may not import src/guest.rs", "src/ops/life/stop.rs may not import src/libvirt.rs"]
    );
    assert_eq!(circles(&imports), ["src/model/name.rs imports src/model/size.rs imports src/model/name.rs"]);
    assert_eq!(
        between_verbs(&imports),
        ["src/ops/life/start.rs is a verb and imports the verb src/ops/life/stop.rs"]
    );
}
